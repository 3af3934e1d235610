'use strict';
// The Echo service. It prints "ready VERSION" once it serves, and "canceled" for each call that ended before its answer.

const grpc = require('@grpc/grpc-js');
const { Echo, Status, ErrorInfo, infoType, version } = require('./protos.js');

const instance = 'node';

function failure({ code, text }) {
  const info = { type_url: infoType, value: ErrorInfo.encode({ reason: 'ECHO', domain: 'echo.test', metadata: { k: 'v' } }) };
  const metadata = new grpc.Metadata();
  metadata.set('grpc-status-details-bin', Status.encode({ code, message: text, details: [info] }));
  return { code, details: text, metadata };
}

function unary(call, callback) {
  const message = call.request;
  const timer = setTimeout(() => {
    if (message.code) return callback(failure(message));
    const header = new grpc.Metadata();
    header.set('echo-header', 'h');
    header.set('echo-bin', Buffer.from([0, 1, 255]));
    call.sendMetadata(header);
    const trailer = new grpc.Metadata();
    trailer.set('echo-trailer', 't');
    for (const name of ['x-echo', 'x-echo-bin']) {
      for (const value of call.metadata.get(name)) trailer.add('back-' + name, value);
    }
    return callback(null, { ...message, instance }, trailer);
  }, message.wait_ms);
  call.on('cancelled', () => {
    clearTimeout(timer);
    console.log('canceled');
  });
}

function collect(call, callback) {
  const answer = { times: 0, text: '', instance };
  call.on('data', (message) => {
    answer.times++;
    answer.text += message.text;
  });
  call.on('end', () => callback(null, answer));
  call.on('cancelled', () => console.log('canceled'));
}

async function repeat(call) {
  const { text, data, times, wait_ms: wait, code } = call.request;
  let drained = () => {};
  call.on('drain', () => drained());
  call.on('cancelled', () => {
    console.log('canceled');
    drained();
  });
  for (let i = 0; i < times && !call.cancelled; i++) {
    if (!call.write({ text, data, times: i, instance })) await new Promise((go) => { drained = go; });
    if (wait) await new Promise((go) => setTimeout(go, wait));
  }
  if (code) call.emit('error', failure(call.request));
  else call.end();
}

function chat(call) {
  call.on('data', (message) => call.write({ ...message, instance }));
  call.on('end', () => call.end());
  call.on('cancelled', () => console.log('canceled'));
}

exports.run = (port, maxAge) => {
  const options = {
    'grpc.max_metadata_size': 1 << 16,
    'grpc.keepalive_time_ms': 1500,
    'grpc.keepalive_timeout_ms': 3000,
    'grpc.keepalive_permit_without_calls': 1,
  };
  if (Number(maxAge)) options['grpc.max_connection_age_ms'] = Number(maxAge);
  const server = new grpc.Server(options);
  server.addService(Echo.service, { Unary: unary, Collect: collect, Repeat: repeat, Chat: chat });
  server.bindAsync('127.0.0.1:' + port, grpc.ServerCredentials.createInsecure(), (err) => {
    if (err) throw err;
    console.log('ready ' + version);
  });
};
