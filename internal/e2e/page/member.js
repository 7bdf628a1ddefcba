// One member of a channel, driven from Go. Everything goes through the
// official SDK's public surface.
'use strict';

const streams = {}; // name → MediaStream
const paused = {};  // name → senders without their tracks
const events = [];  // what the SDK told us, in order
let peer = null;

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function until(condition, ms) {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(20)) {
    if (await condition()) return true;
  }
  throw new Error('not true within ' + ms + ' ms: ' + condition);
}

// only makes connections that offer one video codec, say 'video/AV1', and none else.
const only = mimeType => config => {
  const pc = new RTCPeerConnection(config);
  const codecs = RTCRtpReceiver.getCapabilities('video').codecs.filter(c => [mimeType, 'video/rtx'].includes(c.mimeType));
  const prefer = () => pc.getTransceivers().filter(t => t.sender.track && t.sender.track.kind === 'video')
    .forEach(t => t.setCodecPreferences(codecs));
  for (const name of ['createOffer', 'setLocalDescription']) {
    const original = pc[name];
    pc[name] = (...args) => { prefer(); return original.apply(pc, args); };
  }
  return pc;
};

// join({url, apiKey | token, channel, codec})
async function join({url, apiKey, token, channel, codec}) {
  peer = new MeteredPeer.MeteredPeer({
    url, ...(apiKey ? {apiKey} : {tokenProvider: async () => token}),
    ...(codec ? {rtcPeerConnectionFactory: only(codec)} : {}),
  });
  peer.on('data', e => events.push({event: 'data', kind: e.kind, data: e.data, from: e.senderPeerId}));
  peer.on('state-change', e => events.push({event: 'session', to: e.to}));
  peer.on('peer-joined', ({peer: remote}) => {
    events.push({event: 'joined', peer: remote.id});
    for (const name of ['state-change', 'stream-added', 'stream-removed', 'negotiation-error', 'connection-reset'])
      remote.on(name, e => events.push({event: name, peer: remote.id, to: e && e.to, err: e && e.err && String(e.err)}));
    remote.on('data-channel', ({channel}) => {
      channel.binaryType = 'arraybuffer';
      channel.onmessage = m => channel.send(m.data); // echo
    });
  });
  peer.on('peer-left', ({peer: remote}) => events.push({event: 'left', peer: remote.id}));
  await peer.join(channel);
  return peer.peerId;
}

async function leave() { await peer.close(); }

function add(name, stream, metadata) {
  streams[name] = stream;
  peer.addStream(stream, metadata);
  return stream.id;
}

// camera: Chromium's fake device, moving picture and beeps.
async function addCamera(name = 'camera', video = {width: 640, height: 480, frameRate: 30}) {
  return add(name, await navigator.mediaDevices.getUserMedia({video, audio: true}), {role: name});
}

// A canvas of one colour per frame and a WebAudio tone: known contents.
// With flash on, a white frame and a beep mark the same instant once a second.
function addDrawn(name, {width = 320, height = 240, fps = 30, audio = true, metadata = {role: name}} = {}) {
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const g = canvas.getContext('2d');
  let n = 0;
  const stream = canvas.captureStream(fps);
  const timer = setInterval(() => {
    g.fillStyle = `hsl(${(n * 7) % 360} 80% 40%)`;
    g.fillRect(0, 0, canvas.width, canvas.height);
    g.fillStyle = '#fff';
    g.fillRect((n * 5) % canvas.width, 20, 40, 40);
    n++;
  }, 1000 / fps);
  stream.stopDrawing = () => clearInterval(timer);
  stream.canvas = canvas;
  if (audio) {
    const ctx = new AudioContext();
    const tone = new OscillatorNode(ctx, {frequency: 440});
    const out = ctx.createMediaStreamDestination();
    tone.connect(out);
    tone.start();
    stream.addTrack(out.stream.getAudioTracks()[0]);
  }
  return add(name, stream, metadata);
}

// A flash and a beep at the same instant, once a second: 30 pictures a second, each drawn as the
// audio clock reaches it, the first of every second white while a tone of 100 ms begins.
// The latency of the browser itself is in neither: a stream takes audio as it is rendered.
function addClapper(name = 'clapper', {width = 320, height = 240} = {}) {
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const g = canvas.getContext('2d');
  const stream = canvas.captureStream(0);
  const picture = stream.getVideoTracks()[0];
  const ctx = new AudioContext({sampleRate: 48000});
  const tone = new OscillatorNode(ctx, {frequency: 1000});
  const gain = new GainNode(ctx, {gain: 0});
  const out = ctx.createMediaStreamDestination();
  tone.connect(gain).connect(out);
  tone.start();
  stream.addTrack(out.stream.getAudioTracks()[0]);
  stream.clap = {};
  let n = Math.ceil(ctx.currentTime * 30) + 3, until = n;
  (function draw() {
    const late = ctx.currentTime - n / 30;
    if (late >= 0) {
      const flash = n % 30 < 3;
      g.fillStyle = flash ? '#fff' : '#000';
      g.fillRect(0, 0, width, height);
      if (!flash) {
        g.fillStyle = '#444';
        g.fillRect((n * 5) % width, 20, 40, 40);
      }
      picture.requestFrame();
      if (n % 30 === 0) stream.clap[n / 30] = late;
      n = Math.max(n + 1, Math.ceil(ctx.currentTime * 30));
    }
    for (; until < n + 30; until++) {
      if (until % 30) continue;
      gain.gain.setValueAtTime(0.5, until / 30);
      gain.gain.setValueAtTime(0, until / 30 + 0.1);
    }
    setTimeout(draw, Math.max(1, (n / 30 - ctx.currentTime) * 1000));
  })();
  return add(name, stream, {role: name});
}

// pause stops sending a stream's tracks to everyone, resume goes on; neither is negotiated.
async function pause(name) {
  const ids = streams[name].getTracks().map(t => t.id);
  paused[name] = [];
  for (const r of peer.remotePeers) {
    for (const sender of r.pc.getSenders()) {
      if (!sender.track || !ids.includes(sender.track.id)) continue;
      paused[name].push({sender, track: sender.track});
      await sender.replaceTrack(null);
    }
  }
}

async function resume(name) {
  for (const {sender, track} of paused[name]) await sender.replaceTrack(track);
}

function remove(name) { peer.removeStream(streams[name]); }

function remote(id) {
  const all = peer.remotePeers;
  return id ? all.find(r => r.id === id) : all[0];
}

// setScalabilityMode has the encoder send layers, such as 'L3T3_KEY'.
async function setScalabilityMode(mode) {
  for (const sender of remote().pc.getSenders().filter(s => s.track && s.track.kind === 'video')) {
    const parameters = sender.getParameters();
    parameters.encodings[0].scalabilityMode = mode;
    await sender.setParameters(parameters);
  }
}

// The codec a remote peer wants of us, for a kind of track: the first of its description.
function preferred(kind) {
  const transceiver = remote().pc.getTransceivers().find(t => t.receiver.track.kind === kind);
  return transceiver.sender.getParameters().codecs[0].mimeType;
}

// What this browser's own statistics say it has sent to a remote peer.
async function sent(id) {
  const r = remote(id);
  const totals = {frames: 0, keyFrames: 0, audioPackets: 0, bytes: 0, nacks: 0, plis: 0, width: 0, height: 0, codec: '', mode: '', audioCodec: ''};
  if (!r || !r.pc) return totals;
  const report = await r.pc.getStats();
  report.forEach(s => {
    if (s.type !== 'outbound-rtp') return;
    totals.bytes += s.bytesSent;
    const codec = s.codecId && report.get(s.codecId);
    if (s.kind === 'video') {
      totals.frames += s.framesSent || 0;
      totals.keyFrames += s.keyFramesEncoded || 0;
      totals.nacks += s.nackCount || 0;
      totals.plis += s.pliCount || 0;
      totals.width = s.frameWidth || 0;
      totals.height = s.frameHeight || 0;
      totals.codec = codec ? codec.mimeType : '';
      totals.mode = s.scalabilityMode || '';
    } else {
      totals.audioPackets += (s.packetsSent || 0) - (s.retransmittedPacketsSent || 0);
      totals.audioCodec = codec ? codec.mimeType : '';
    }
  });
  return totals;
}

// screen: what a person would share, picked by Chromium's fake UI.
async function addScreen(name = 'screen') {
  return add(name, await navigator.mediaDevices.getDisplayMedia({video: true}), {role: name});
}

// Puts a drawn picture in the place of a stream's video track.
async function replaceVideo(name) {
  const canvas = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
  const g = canvas.getContext('2d');
  setInterval(() => { g.fillStyle = `hsl(${performance.now() / 20 % 360} 80% 40%)`; g.fillRect(0, 0, 320, 240); }, 33);
  await peer.replaceTrack(streams[name].getVideoTracks()[0], canvas.captureStream(30).getVideoTracks()[0]);
}

function mute(name, muted = true) {
  for (const track of streams[name].getTracks()) track.enabled = !muted;
}

// echo opens a data channel to the only remote peer and resolves with what
// comes back for each message.
function echo(messages) {
  return new Promise((resolve, reject) => {
    const channel = remote().pc.createDataChannel('echo');
    const back = [];
    channel.onerror = reject;
    channel.onopen = () => messages.forEach(m => channel.send(m));
    channel.onmessage = m => {
      back.push(m.data);
      if (back.length === messages.length) resolve(back);
    };
  });
}
