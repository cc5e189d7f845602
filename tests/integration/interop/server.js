// SPDX-License-Identifier: Apache-2.0
// A grpc-js server with mutual TLS: node server.js <directory>; prints its port, ends with stdin.
const grpc = require('@grpc/grpc-js');
const fs = require('fs');

const directory = process.argv[2];
const read = (name) => fs.readFileSync(`${directory}/${name}`);
const pair = { private_key: read('key.pem'), cert_chain: read('chain.pem') };
const bytes = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/shop.Orders/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
const server = new grpc.Server();
server.addService(
  { unary: method('unary_unary', false, false), stream: method('stream_stream', true, true) },
  {
    unary: (call, callback) => callback(null, Buffer.from('js ' + call.request.toString())),
    stream: (call) => {
      call.on('data', (data) => call.write(Buffer.from('js ' + data.toString())));
      call.on('end', () => call.end());
    },
  },
);
const credentials = grpc.ServerCredentials.createSsl(read('roots.pem'), [pair], true);
server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
