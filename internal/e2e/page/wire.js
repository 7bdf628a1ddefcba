// What a connection carries, as this browser's own statistics have it.
'use strict';

// A picture that takes about as many bits as a camera's at any size: grain that moves each frame.
function addGrain(name, {width, height, fps = 30, grain = 24} = {}) {
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const g = canvas.getContext('2d', {alpha: false});
  const sheet = Object.assign(document.createElement('canvas'), {width: 2 * width, height: 2 * height});
  const s = sheet.getContext('2d');
  const pixels = s.createImageData(sheet.width, sheet.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const level = 128 + grain * (Math.random() - 0.5);
    pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = level;
    pixels.data[i + 3] = 255;
  }
  s.putImageData(pixels, 0, 0);
  setInterval(() => g.drawImage(sheet, -Math.floor(Math.random() * width), -Math.floor(Math.random() * height)), 1000 / fps);
  return add(name, canvas.captureStream(fps), {role: name});
}

// limit bounds the picture sent to each remote peer, in bit/s, and tells whether all of them are sent one.
async function limit(maxBitrate) {
  const senders = peer.remotePeers.map(r => r.pc && r.pc.getSenders().find(s => s.track && s.track.kind === 'video'));
  for (const sender of senders.filter(s => s)) {
    const parameters = sender.getParameters();
    parameters.encodings[0].maxBitrate = maxBitrate;
    await sender.setParameters(parameters);
  }
  return senders.every(s => s);
}

// outbound is the picture that goes to a remote peer.
async function outbound(id) {
  const out = {frames: 0};
  const report = await remote(id).pc.getStats();
  report.forEach(s => {
    if (s.type === 'outbound-rtp' && s.kind === 'video') {
      Object.assign(out, {
        at: s.timestamp, bytes: s.bytesSent, repeated: s.retransmittedBytesSent, frames: s.framesSent,
        width: s.frameWidth, height: s.frameHeight, fps: s.framesPerSecond, target: s.targetBitrate, limitation: s.qualityLimitationReason,
      });
    } else if (s.type === 'transport') {
      out.available = report.get(s.selectedCandidatePairId)?.availableOutgoingBitrate;
    }
  });
  return out;
}

// transport is how the media to the only remote peer is protected.
async function transport() {
  const out = {};
  const report = await remote().pc.getStats();
  report.forEach(s => {
    if (s.type === 'transport') Object.assign(out, {srtp: s.srtpCipher, role: s.dtlsRole, state: s.dtlsState});
  });
  return out;
}

// extensions are the RTP header extensions that the only remote peer takes, by kind of track.
function extensions() {
  return Object.fromEntries(remote().pc.getSenders().filter(s => s.track)
    .map(s => [s.track.kind, s.getParameters().headerExtensions.map(e => e.uri)]));
}

// watchConnections notes, of every connection made from now on, when it got into each state.
const connections = [];
function watchConnections() {
  const Original = RTCPeerConnection;
  window.RTCPeerConnection = function (...args) {
    const pc = new Original(...args);
    const times = {};
    connections.push(times);
    pc.addEventListener('connectionstatechange', () => { times[pc.connectionState] ??= performance.now(); });
    pc.addEventListener('iceconnectionstatechange', () => { times['ice ' + pc.iceConnectionState] ??= performance.now(); });
    return pc;
  };
}
