#!/bin/sh
# make.sh makes the two clips of this package with ffmpeg (libvpx, libopus). They are 3.00 s long each and meant to be
# looped. Once a second the white bar flashes in the picture and a beep sounds, at the same time, so that a recording of both shows
# whether it is in sync.
set -eu
cd "$(dirname "$0")"

# Picture: a moving test card that counts the seconds, 320x240 at 15 frames/s, a key frame each second, no hidden frames.
ffmpeg -hide_banner -v error -y \
	-f lavfi -i "testsrc=size=320x240:rate=15:duration=3,drawbox=x=0:y=200:w=320:h=40:color=white:t=fill:enable='lt(mod(t,1),0.1)'" \
	-c:v libvpx -b:v 250k -g 15 -keyint_min 15 -deadline good -cpu-used 0 -auto-alt-ref 0 -lag-in-frames 0 -threads 1 \
	-fflags +bitexact -flags:v +bitexact -an picture.ivf

# Sound: four notes a second that swell like syllables, and a beep of 0.1 s on each full second; stereo, 20 ms packets, one packet
# a page. 2.99 s and Opus's pre-skip of 6.5 ms fill exactly 150 packets.
note="(220*pow(2,mod(floor(t*4)*5,12)/12))"
voice="0.25*sin(PI*mod(t*4,1))*(sin(2*PI*$note*t)+0.5*sin(4*PI*$note*t)+0.25*sin(6*PI*$note*t))"
beep="0.3*lt(mod(t,1),0.1)*sin(2*PI*1000*t)"
ffmpeg -hide_banner -v error -y \
	-f lavfi -i "aevalsrc='$voice+$beep|0.6*$voice+$beep':s=48000:d=2.99" \
	-c:a libopus -b:a 48k -frame_duration 20 -page_duration 20000 -fflags +bitexact -flags:a +bitexact sound.ogg
