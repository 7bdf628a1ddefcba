#!/bin/sh
# Makes the clips of this directory: four seconds of a moving test card at 15 frames/s with a key
# frame each second, and of a voice-like tone in mono. Needs FFmpeg with libvpx, libaom, libx264
# and libopus.
set -eu
cd "$(dirname "$0")"
picture="-f lavfi -i testsrc2=size=240x136:rate=15:duration=4,noise=alls=4:allf=t -pix_fmt yuv420p -g 15 -an -fflags +bitexact -flags +bitexact"
ffmpeg -v error -y $picture -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -b:v 120k -f ivf vp9.ivf
ffmpeg -v error -y $picture -c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -b:v 120k -f ivf av1.ivf
ffmpeg -v error -y $picture -c:v libx264 -profile:v baseline -preset medium -tune zerolatency -b:v 140k \
	-x264-params aud=1:slices=2:scenecut=0 -f h264 h264.h264
ffmpeg -v error -y -f lavfi -i "aevalsrc=0.4*sin(2*PI*(140+30*sin(5*t))*t)*(0.5+0.5*sin(9*t))+0.05*random(0)*(0.5+0.5*sin(9*t)):s=48000:d=4" \
	-ac 1 -c:a libopus -application voip -b:a 20k -fec 1 -packet_loss 10 -page_duration 1 -fflags +bitexact -flags +bitexact voice.ogg
# vp9layers.ivf is not made here: twenty superframes of two spatial layers, 320x180 and 640x360, as
# Chromium's encoder sent them in scalability mode L2T3_KEY.
