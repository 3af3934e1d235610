'use strict';
// The stock peers of Node: sofa-rpc-node, which speaks Bolt, and with dubbo-remoting Dubbo; apache-dubbo-js, a client of Dubbo.
//   server PROTOCOL PORT                serves peer.Hello until its standard input ends
//   client PROTOCOL ADDRESS             reads calls from standard input, one a line, METHOD ARGUMENT TIMEOUT, and answers each with a line
//                                       of JSON: {ok, value} or {ok: false, error, name}; PROTOCOL is bolt, bolt2, bolt2crc, dubbo or dubbo-js
const readline = require('readline');
const { RpcServer } = require('sofa-rpc-node').server;
const { RpcClient } = require('sofa-rpc-node').client;

const quiet = { info() {}, warn() {}, error() {}, debug() {} };
const [role, protocol, where] = process.argv.slice(2);

function extra() {
  if (protocol.startsWith('dubbo')) return { protocol: require('dubbo-remoting') };
  const bolt = require('sofa-bolt-node');
  if (protocol === 'bolt') return { protocol: bolt };
  const encoder = options => Object.assign(bolt.encoder(options), { protocolType: 'bolt2', boltVersion: 2, crcEnable: protocol === 'bolt2crc' });
  return { protocol: { ...bolt, encoder } };
}

async function serve() {
  const server = new RpcServer({ logger: quiet, port: Number(where), autoServe: false, killTimeout: 100, idleTime: 300000, ...extra() });
  const notes = [];
  server.addService({ interfaceName: 'peer.Hello', version: '1.0' }, {
    async hello(name) { return 'node:' + name; },
    async big(n) { return 'x'.repeat(Number(n)); },
    async slow(ms) { await new Promise(done => setTimeout(done, Number(ms))); return 'slow'; },
    async fail(text) { throw new Error(text); },
    async note(text) { notes.push(text); return ''; },
    async notes() { return notes.join(','); },
  });
  await server.start();
  console.log('ready');
}

async function clientOf() {
  if (protocol === 'dubbo-js') {
    const { DirectlyDubbo } = require('apache-dubbo-js');
    const java = require('js-to-java');
    const methods = {};
    for (const m of ['hello', 'slow', 'fail', 'note', 'notes', 'big']) methods[m] = a => (m === 'notes' ? [] : [java.String(a)]);
    const dubbo = DirectlyDubbo.from({ dubboAddress: where, dubboVersion: '2.0.2', dubboInvokeTimeout: 5 });
    const service = dubbo.proxyService({ dubboInterface: 'peer.Hello', version: '1.0', methods });
    return async (method, arg) => {
      const { res, err } = await service[method](arg);
      if (err) throw err;
      return res;
    };
  }
  const client = new RpcClient({ logger: quiet, ...extra() });
  const scheme = protocol.startsWith('dubbo') ? 'dubbo' : 'bolt';
  const consumer = client.createConsumer({ interfaceName: 'peer.Hello', version: '1.0', serverHost: `${scheme}://${where}`, responseTimeout: 5000 });
  await consumer.ready();
  return (method, arg, timeout) => {
    const args = method === 'notes' ? [] : [{ $class: 'java.lang.String', $: arg }];
    return consumer.invoke(method, args, { responseTimeout: timeout });
  };
}

async function run() {
  if (role === 'server') return serve();
  const call = await clientOf();
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [id, method, arg, timeout] = line.split(' ');
    call(method, arg, Number(timeout || 5000)).then(
      value => console.log(JSON.stringify({ id, ok: true, value: value === undefined || value === null ? '' : String(value) })),
      err => console.log(JSON.stringify({ id, ok: false, error: String(err.message), name: err.name })));
  }
  process.exit(0);
}

run().catch(err => { console.log('failed', err.stack); process.exit(1); });
process.stdin.on('end', () => process.exit(0));
if (role === 'server') process.stdin.resume();
