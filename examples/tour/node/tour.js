'use strict';
// Nine things an application does with its sidecar, over stubs made from the proto files.
// It is started by the sidecar: outrigger run -app-id tour -app-port 8085 -app-protocol grpc -- node tour.js 8085

const path = require('path');
const { setTimeout: sleep } = require('timers/promises');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const protos = ['tour.proto', 'status.proto',
  ...['cache', 'state', 'config', 'pubsub', 'lock', 'schedule', 'transaction'].map((c) => `outrigger/${c}/v1/${c}.proto`)];
const options = { includeDirs: [path.join(__dirname, 'proto'), __dirname], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const definition = loader.loadSync(protos, options);
const loaded = grpc.loadPackageDefinition(definition);
const api = loaded.outrigger;
const { Greeter } = loaded.examples.tour.v1;

const address = process.env.OUTRIGGER_GRPC_ADDR || '127.0.0.1:7070';
const run = `tour-node-${Date.now()}-${process.pid}`; // so that the tour can be taken again

const limit = () => ({ deadline: Date.now() + 20_000 }); // of each call

// connect is a service's stub, whose unary calls are awaited with call.
function connect(Service) {
  const stub = new Service(address, grpc.credentials.createInsecure());
  stub.call = (method, request, metadata = new grpc.Metadata()) => new Promise((resolve, reject) => {
    stub[method](request, metadata, limit(), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  return stub;
}

// refused is the reason for which a call is refused.
async function refused(call) {
  const error = await call.then(() => undefined, (e) => e);
  if (!error) throw new Error('it was not refused');
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const { details } = definition['tour.rpc.Status'].deserialize(bytes);
  const info = details.find((d) => d.type_url.endsWith('/google.rpc.ErrorInfo'));
  return definition['tour.rpc.ErrorInfo'].deserialize(info.value).reason;
}

// branch is one of a saga: what it writes is written once, whatever call is repeated or late. Two cannot be done.
async function branch(states, name, metadata) {
  const [gid, id, op] = ['tx-gid', 'tx-branch', 'tx-op'].map((key) => metadata.get(key)[0]);
  if (name === 'two' && op === 'action') {
    const why = new grpc.Metadata();
    why.set('tx-reason', 'TX_BRANCH_FAILED');
    throw Object.assign(new Error('not today'), { code: grpc.status.ABORTED, metadata: why });
  }
  const write = { set: { key: `${run}-${name}`, value: Buffer.from(op) } };
  await states.call('Transact', { barrier: { gid, branch: id, op }, operations: [write] });
}

// serve answers who called, once somebody has.
async function serve(port) {
  let heard;
  const caller = new Promise((resolve) => { heard = resolve; });
  const server = new grpc.Server();
  const states = connect(api.state.v1.State);
  server.addService(Greeter.service, {
    Greet({ request, metadata }, answer) {
      const greet = () => answer(null, { text: `hello, ${request.name}` });
      if (metadata.get('tx-gid').length > 0) {
        branch(states, request.name, metadata).then(greet, answer);
      } else {
        heard(request.name);
        greet();
      }
    },
  });
  await new Promise((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (e) => (e ? reject(e) : resolve()));
  });
  return { server, caller };
}

// call calls an application by its name. Until it is known, which takes a moment after its start, calls are refused.
async function call() {
  const greeter = connect(Greeter);
  const to = new grpc.Metadata();
  to.set('outrigger-service', 'tour');
  for (let i = 0; ; i++) {
    try {
      return (await greeter.call('Greet', { name: 'sidecar' }, to)).text;
    } catch (e) {
      if (e.code !== grpc.status.UNAVAILABLE || i === 100) throw e;
      await sleep(100);
    }
  }
}

async function cache() {
  const stub = connect(api.cache.v1.Cache);
  await stub.call('Set', { key: run, value: Buffer.from('41'), ttl: { seconds: 60 } });
  return (await stub.call('Increment', { key: run, delta: 1 })).value;
}

// state changes a value only if nobody else has meanwhile.
async function state() {
  const stub = connect(api.state.v1.State);
  const old = await stub.call('Set', { key: run, value: Buffer.from('1') });
  const change = { key: run, value: Buffer.from('2'), condition: { if_version: old.version } };
  await stub.call('Set', change);
  return refused(stub.call('Set', change));
}

// config sees a setting change.
async function config() {
  const stub = connect(api.config.v1.Config);
  await stub.call('Set', { key: run, value: Buffer.from('hello') });
  const seen = [];
  for await (const { changes } of stub.Watch({ keys: [run] }, limit())) {
    seen.push(...changes.map((c) => c.item.value.toString()));
    if (seen.length === 1) await stub.call('Set', { key: run, value: Buffer.from('servus') });
    if (seen.at(-1) === 'servus') break; // which cancels the stream
  }
  return seen.join(', then ');
}

// events subscribes, publishes, and acknowledges each event once it is handled.
async function events() {
  const stub = connect(api.pubsub.v1.PubSub);
  const stream = stub.Subscribe(limit());
  stream.write({ start: { topic: run, credit: { messages: 10 } } });
  const seen = [];
  for await (const { message, delivery } of stream) {
    if (message === 'started') {
      const three = ['1', '2', '3'].map((text) => ({ data: Buffer.from(text), ordering_key: 'tour' }));
      await stub.call('PublishMany', { topic: run, events: three });
    } else if (message === 'delivery') {
      seen.push(delivery.event.data.toString());
      stream.write({ ack: { delivery_ids: [delivery.delivery_id] } });
      if (seen.length === 3) stream.end();
    }
  }
  return seen.join(' ');
}

// lock writes under a lock; who held it before is refused.
async function lock() {
  const locks = connect(api.lock.v1.Lock);
  const states = connect(api.state.v1.State);
  const tokens = [];
  for (let i = 0; i < 2; i++) {
    const { token } = await locks.call('Lock', { name: run, lease: { seconds: 10 } });
    tokens.push(token);
    await states.call('Set', { key: run, value: Buffer.from('mine'), fence: { name: run, token } });
    await locks.call('Unlock', { name: run, token });
  }
  return refused(states.call('Set', { key: run, value: Buffer.from('late'), fence: { name: run, token: tokens[0] } }));
}

// schedule has a job fire, and settles the firing.
async function schedule() {
  const stub = connect(api.schedule.v1.Schedule);
  const at = { seconds: Math.floor(Date.now() / 1000) };
  await stub.call('Create', { job: { name: run, trigger: { at }, data: Buffer.from('wake-up') } });
  const stream = stub.Watch(limit());
  stream.write({ start: { prefix: run, credit: { messages: 1 } } });
  let seen = '';
  for await (const { message, delivery } of stream) {
    if (message !== 'delivery') continue;
    seen = delivery.data.toString();
    stream.write({ ack: { delivery_ids: [delivery.delivery_id] } });
    stream.end();
  }
  return seen;
}

// transaction runs a saga of two steps, each a call of the application itself. The second fails, so that the first is taken back.
async function transaction() {
  const stub = connect(api.transaction.v1.Transaction);
  const to = (name) => ({ service: 'tour', method: 'examples.tour.v1.Greeter/Greet', data: Greeter.service.Greet.requestSerialize({ name }) });
  const steps = ['one', 'two'].map((id) => ({ id, action: to(id), compensation: to(id) }));
  const { status } = await stub.call('RunSaga', { gid: run, steps, wait: true });
  const last = await connect(api.state.v1.State).call('Get', { key: `${run}-one` });
  return `${status.state.replace('STATE_', '')} at ${status.failed_branch}; last of one: ${last.value}`;
}

async function main(port) {
  const { server, caller } = await serve(port);
  console.log('1 call a service:', await call());
  console.log('2 be called: by', await caller);
  console.log('3 cache:', await cache());
  console.log('4 state: the old version is refused,', await state());
  console.log('5 config:', await config());
  console.log('6 events:', await events());
  console.log('7 lock: the old token is refused,', await lock());
  console.log('8 schedule:', await schedule(), 'fired');
  console.log('9 transaction:', await transaction());
  console.log('tour: 9 steps done');
  server.forceShutdown();
  process.exit(0); // the stubs' connections would keep it
}

main(process.argv[2]).catch((e) => {
  console.error(e);
  process.exit(1);
});
