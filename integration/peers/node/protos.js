'use strict';
// The services and messages, read from their .proto files, and what this program says of its versions.

const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const files = ['echo.proto', 'details.proto', 'outrigger/cache/v1/cache.proto'];
const options = { includeDirs: [path.join(__dirname, 'proto')], keepCase: true, longs: Number, defaults: true };
const definition = loader.loadSync(files, options);
const loaded = grpc.loadPackageDefinition(definition);

const infoType = 'type.googleapis.com/google.rpc.ErrorInfo';
const codec = (name) => ({
  encode: (message) => definition[name].serialize(message),
  decode: (bytes) => definition[name].deserialize(bytes),
});

module.exports = {
  Echo: loaded.integration.echo.v1.Echo,
  Cache: loaded.outrigger.cache.v1.Cache,
  Status: codec('peers.Status'),
  ErrorInfo: codec('peers.ErrorInfo'),
  infoType,
  version: `@grpc/grpc-js ${require('@grpc/grpc-js/package.json').version} on Node.js ${process.version}`,
};
