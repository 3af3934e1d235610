'use strict';
// A gRPC application on Node.js: `peer.js server PORT MAX_AGE_MS`, `peer.js client TARGET [AUTHORITY]` or `peer.js steady TARGET SECONDS`.

const [role, ...more] = process.argv.slice(2);
const roles = { server: './server.js', client: './client.js', steady: './steady.js' };
require(roles[role]).run(...more);
