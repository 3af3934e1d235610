'use strict';
// The client's cases, over one channel; each prints a line of JSON.

const assert = require('assert').strict;
const grpc = require('@grpc/grpc-js');
const { Echo, Cache, Status, ErrorInfo, version } = require('./protos.js');

const rounds = 1000;
const limit = () => ({ deadline: Date.now() + 60000 }); // of calls that should not end by it
const sleep = (ms) => new Promise((go) => setTimeout(go, ms));
let authority; // of the channel, where it and no metadata says who is called
const options = {
  'grpc.max_metadata_size': 1 << 16,
  'grpc.keepalive_time_ms': 1500,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.keepalive_permit_without_calls': 1,
};

const zipped = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };

function toEcho(extra = {}) {
  const metadata = new grpc.Metadata();
  if (!authority) metadata.set('outrigger-service', 'echo');
  for (const [name, values] of Object.entries(extra)) values.forEach((value) => metadata.add(name, value));
  return metadata;
}

// values are split where Node.js has joined them, as RFC 9110 section 5.3 allows.
const values = (metadata, name) => metadata.get(name).flatMap((v) => (typeof v === 'string' ? v.split(', ') : [v]));

class Cases {
  constructor(target) {
    this.target = target;
    this.echo = new Echo(target, grpc.credentials.createInsecure(), options);
    this.cache = new Cache(target, grpc.credentials.createInsecure(), { ...options, channelOverride: this.echo.getChannel() });
  }

  // call answers what came of a unary call: {err, answer, header, trailer}.
  call(client, method, message, metadata = new grpc.Metadata(), more = limit()) {
    return new Promise((done) => {
      const out = {};
      const call = client[method](message, metadata, more, (err, answer) => Object.assign(out, { err, answer }));
      call.on('metadata', (header) => { out.header = header; });
      call.on('status', (status) => setImmediate(() => done({ ...out, trailer: status.metadata })));
    });
  }

  async same(size, echo = this.echo) {
    const data = Buffer.alloc(size, '0123456789abcdef');
    const { err, answer } = await this.call(echo, 'Unary', { text: 'hello', data }, toEcho());
    assert.equal(err, null);
    assert.equal(answer.text, 'hello');
    assert.ok(data.equals(answer.data));
    return `${answer.data.length} bytes from ${answer.instance}`;
  }

  async metadata() {
    const sent = { 'x-echo': ['1', '2'], 'x-echo-bin': [Buffer.from([0, 200, 10]), Buffer.from([255])] };
    const { err, header, trailer } = await this.call(this.echo, 'Unary', {}, toEcho(sent));
    assert.equal(err, null);
    assert.deepEqual(values(header, 'echo-header'), ['h']);
    assert.deepEqual(values(header, 'echo-bin'), [Buffer.from([0, 1, 255])]);
    assert.deepEqual(values(trailer, 'echo-trailer'), ['t']);
    assert.deepEqual(values(trailer, 'back-x-echo'), ['1', '2']);
    assert.deepEqual(values(trailer, 'back-x-echo-bin'), sent['x-echo-bin']);
    return 'two values, binary ones too, both ways';
  }

  async status() {
    const { err } = await this.call(this.echo, 'Unary', { text: 'schön 100 % 日本', code: 15 }, toEcho());
    assert.equal(err.code, grpc.status.DATA_LOSS);
    assert.equal(err.details, 'schön 100 % 日本');
    const info = ErrorInfo.decode(Status.decode(err.metadata.get('grpc-status-details-bin')[0]).details[0].value);
    assert.deepEqual({ ...info, metadata: { ...info.metadata } }, { reason: 'ECHO', domain: 'echo.test', metadata: { k: 'v' } });
    return `${err.message} ${info.reason}`;
  }

  async origin() {
    const good = await this.call(this.echo, 'Unary', {}, toEcho());
    const failed = await this.call(this.echo, 'Unary', { code: 9 }, toEcho());
    const nobody = new grpc.Metadata();
    nobody.set('outrigger-service', 'nobody');
    const absent = await this.call(this.echo, 'Unary', {}, nobody);
    const got = [good, failed, absent].map((c) => values(c.trailer, 'outrigger-origin').join());
    assert.deepEqual(got, ['app', 'app', 'sidecar']);
    return `${got}, ${absent.err.message}`;
  }

  async deadline() {
    const began = Date.now();
    const { err } = await this.call(this.echo, 'Unary', { wait_ms: 60000 }, toEcho(), { deadline: began + 500 });
    assert.equal(err.code, grpc.status.DEADLINE_EXCEEDED);
    assert.ok(Date.now() - began < 20000);
    return err.message;
  }

  async cancel() {
    const stream = this.echo.Repeat({ times: 1 << 20, wait_ms: 10 }, toEcho());
    let got = 0;
    stream.on('data', () => { if (++got === 3) stream.cancel(); });
    const err = await new Promise((done) => stream.on('error', done));
    assert.equal(err.code, grpc.status.CANCELLED);
    return err.message;
  }

  async clientStream() {
    const answer = await new Promise((done, fail) => {
      const stream = this.echo.Collect(toEcho(), limit(), (err, message) => (err ? fail(err) : done(message)));
      for (let i = 0; i < rounds; i++) stream.write({ text: 'x' });
      stream.end();
    });
    assert.equal(answer.times, rounds);
    assert.equal(answer.text, 'x'.repeat(rounds));
    return `${answer.times} sent`;
  }

  async serverStream() {
    let got = 0;
    for await (const message of this.echo.Repeat({ text: 'y', times: rounds }, toEcho(), limit())) {
      assert.deepEqual([message.times, message.text], [got++, 'y']);
    }
    assert.equal(got, rounds);
    return `${got} in order`;
  }

  async bidi() {
    const stream = this.echo.Chat(toEcho(), limit());
    let got = 0;
    stream.write({ times: 0 });
    for await (const message of stream) {
      assert.equal(message.times, got++);
      if (got < rounds) stream.write({ times: got });
      else stream.end();
    }
    assert.equal(got, rounds);
    return `${got} in turn`;
  }

  async concurrent() {
    const began = Date.now();
    const texts = Array.from({ length: 50 }, (_, i) => String(i));
    const got = await Promise.all(texts.map((text) => this.call(this.echo, 'Unary', { text, wait_ms: 500 }, toEcho())));
    assert.deepEqual(got.map((c) => c.answer?.text), texts);
    assert.ok(Date.now() - began < 20000); // one after the other takes 25 s
    return '50 at once';
  }

  async largeHeader() {
    const value = Array.from({ length: 8 << 10 }, (_, i) => String.fromCharCode(97 + ((i * 7) % 26))).join('');
    const { err, trailer } = await this.call(this.echo, 'Unary', {}, toEcho({ 'x-echo': [value] }));
    assert.equal(err, null);
    assert.deepEqual(values(trailer, 'back-x-echo'), [value]);
    return `${value.length} bytes`;
  }

  async gzip() {
    const zipping = new Echo(this.target, grpc.credentials.createInsecure(), { ...options, ...zipped });
    try {
      return await this.same(100 << 10, zipping);
    } finally {
      zipping.close();
    }
  }

  async cacheAPI() {
    const key = `node-${process.hrtime.bigint()}`;
    const set = await this.call(this.cache, 'Set', { key, value: Buffer.from('41'), content_type: 'text/plain' });
    const { answer } = await this.call(this.cache, 'Get', { key });
    assert.deepEqual([answer.value.toString(), answer.content_type, answer.version], ['41', 'text/plain', set.answer.version]);
    const sums = await Promise.all(Array.from({ length: 50 }, () => this.call(this.cache, 'Increment', { key, delta: 1 })));
    assert.deepEqual(sums.map((c) => c.answer?.value).sort(), Array.from({ length: 50 }, (_, i) => 42 + i));
    const { err } = await this.call(this.cache, 'Get', { key: key + '-absent' });
    const info = ErrorInfo.decode(Status.decode(err.metadata.get('grpc-status-details-bin')[0]).details[0].value);
    assert.deepEqual([err.code, info.reason], [grpc.status.NOT_FOUND, 'KEY_NOT_FOUND']);
    return `42 to 91, ${info.reason}`;
  }

  async cacheLarge() {
    const key = `node-large-${process.hrtime.bigint()}`;
    const value = Buffer.alloc(1 << 20, '0123456789abcdef');
    const zipping = new Cache(this.target, grpc.credentials.createInsecure(), { ...options, ...zipped });
    for (const cache of [this.cache, zipping]) {
      assert.equal((await this.call(cache, 'Set', { key, value })).err, null);
      const { err, answer } = await this.call(cache, 'Get', { key });
      assert.equal(err, null);
      assert.ok(value.equals(answer.value));
    }
    zipping.close();
    return `${value.length} bytes, plain and compressed`;
  }

  async idle() {
    const channel = this.echo.getChannel();
    let left = false;
    channel.watchConnectivityState(grpc.connectivityState.READY, Date.now() + 30000, (err) => { left = left || !err; });
    await sleep(6000);
    assert.equal(left, false);
    await this.same(1 << 10);
    assert.equal(left, false);
    assert.equal(channel.getConnectivityState(false), grpc.connectivityState.READY);
    return 'the same connection after 6 s';
  }
}

exports.run = async (target, name) => {
  authority = name;
  if (authority) options['grpc.default_authority'] = authority;
  const cases = new Cases(target);
  console.log(JSON.stringify({ case: 'version', ok: true, seen: version }));
  for (const [name, run] of [
    ['unary 1 KiB', () => cases.same(1 << 10)],
    ['unary 3 MiB', () => cases.same(3 << 20)],
    ['metadata', () => cases.metadata()],
    ['status', () => cases.status()],
    ['origin', () => cases.origin()],
    ['deadline', () => cases.deadline()],
    ['cancel', () => cases.cancel()],
    ['client stream', () => cases.clientStream()],
    ['server stream', () => cases.serverStream()],
    ['bidi', () => cases.bidi()],
    ['concurrent', () => cases.concurrent()],
    ['large header', () => cases.largeHeader()],
    ['gzip', () => cases.gzip()],
    ...(authority ? [] : [['cache', () => cases.cacheAPI()], ['cache large', () => cases.cacheLarge()]]),
    ['idle', () => cases.idle()],
  ]) {
    let line = { case: name, ok: true };
    try {
      line.seen = await run();
    } catch (err) { // whatever it is, it is what was seen
      line = { case: name, ok: false, seen: String(err).slice(0, 1000) };
    }
    console.log(JSON.stringify(line));
  }
  process.exit();
};
