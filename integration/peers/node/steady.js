'use strict';
// Calls without a pause, four at a time, and tells how many calls failed.

const grpc = require('@grpc/grpc-js');
const { Echo } = require('./protos.js');

exports.run = async (target, seconds) => {
  const echo = new Echo(target, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata({ waitForReady: true });
  metadata.set('outrigger-service', 'echo');
  const end = Date.now() + seconds * 1000;
  const failures = [];
  let count = 0;
  const call = () => new Promise((done) => {
    echo.Unary({ text: 'x' }, metadata, { deadline: Date.now() + 60000 }, (err) => {
      count++;
      if (err) failures.push(err.message);
      done();
    });
  });
  const calls = async () => { while (Date.now() < end) await call(); };
  await Promise.all([calls(), calls(), calls(), calls()]);
  const seen = `${count} calls, ${failures.length} failed ${failures.slice(0, 3)}`;
  console.log(JSON.stringify({ case: 'restart', ok: failures.length === 0, seen }));
  process.exit();
};
