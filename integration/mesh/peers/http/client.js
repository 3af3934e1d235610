// Calls stock through a proxy and by the Host: node client.js HOST PORT.
const http = require('http')
const [host, port] = process.argv.slice(2)
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
const call = (method, path, body, chunked) => new Promise((resolve, reject) => {
  const headers = { host: 'stock', ...(body && !chunked ? { 'content-length': body.length } : {}) }
  const rq = http.request({ host, port, method, path, headers, agent }, (rp) => {
    const parts = []
    rp.on('data', (d) => parts.push(d)).on('end', () => resolve({ status: rp.statusCode, origin: rp.headers['outrigger-origin'], body: Buffer.concat(parts) }))
  })
  rq.on('error', reject)
  rq.end(body)
})
;(async () => {
  const big = Buffer.alloc(300000, 'n')
  for (let i = 0; i < 50; i++) {
    const rp = await call('POST', '/echo', i % 2 ? big : Buffer.from('small' + i), i % 3 === 0)
    const want = i % 2 ? big : Buffer.from('small' + i)
    if (rp.status !== 200 || rp.origin !== 'app' || !rp.body.equals(want)) throw new Error(`${i}: ${rp.status} ${rp.body.length}`)
  }
  console.log('ok')
  process.exit(0)
})().catch((e) => { console.log(e.stack); process.exit(1) })
