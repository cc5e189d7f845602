// SPDX-License-Identifier: Apache-2.0
// A grpc-js client: node client.js <target> <directory> <method> <message>; prints code or answer.
const grpc = require('@grpc/grpc-js');
const fs = require('fs');

const [target, directory, method, message] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${directory}/${name}`);
const credentials = grpc.credentials.createSsl(read('roots.pem'), read('key.pem'), read('chain.pem'), {
  checkServerIdentity: (host, certificate) =>
    certificate.subjectaltname.includes('URI:spiffe://example.org/ns/shop/sa/orders')
      ? undefined
      : new Error('another server'),
});
const client = new grpc.Client(target, credentials);
const bytes = (value) => value;
client.makeUnaryRequest(method, bytes, bytes, Buffer.from(message), (error, answer) => {
  process.stdout.write(error ? `code ${error.code}` : answer.toString());
  client.close();
});
