'use strict';
// A gRPC application on Node.js: `peer.js server PORT` or `peer.js client TARGET`.

const [role, where] = process.argv.slice(2);
require({ server: './server.js', client: './client.js' }[role]).run(where);
