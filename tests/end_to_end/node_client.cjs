// A device written from the .proto files alone, in another language than the agent.
//
//   node node_client.cjs enroll PROTO TOKEN FOLDER      key, certificate and authority into FOLDER
//   node node_client.cjs submit PROTO FOLDER RUN RUN_ID SEQUENCE
//   node node_client.cjs submit-without-certificate PROTO FOLDER
//
// Prints one JSON document: the answer, or {code, reason} of a refusal. NODE_PATH names @grpc/grpc-js and
// @grpc/proto-loader. Node makes keys but no request for a certificate: that is asked of `openssl`.
'use strict';
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const tls = require('node:tls');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const DEADLINE_SECONDS = 30;

const details = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; }
`).root;

function reasonOf(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!packed) return '';
  const found = details.lookupType('Status').decode(packed).details.find((one) => one.typeUrl.endsWith('ErrorInfo'));
  return found ? details.lookupType('ErrorInfo').decode(found.value).reason : '';
}

function services(proto) {
  const options = { includeDirs: [proto], keepCase: true, enums: String, longs: Number, defaults: true };
  return grpc.loadPackageDefinition(loader.loadSync('weighin/v1/services.proto', options)).weighin.v1;
}

function call(client, method, request) {
  const deadline = new Date(Date.now() + DEADLINE_SECONDS * 1000);
  return new Promise((resolve) =>
    client[method](request, { deadline }, (error, answer) => {
      client.close();
      resolve(error ? { code: grpc.status[error.code], reason: reasonOf(error) } : answer);
    }),
  );
}

// The server's chain is taken unseen, and only the certificate that the token names is trusted from then on.
function authorityOf(host, port, fingerprint) {
  return new Promise((resolve, reject) => {
    const servername = net.isIP(host) ? '' : host;
    const socket = tls.connect({ host, port, servername, rejectUnauthorized: false, ALPNProtocols: ['h2'] }, () => {
      let one = socket.getPeerCertificate(true);
      const digest = (raw) => crypto.createHash('sha256').update(raw).digest('hex');
      while (digest(one.raw) !== fingerprint && one.issuerCertificate && one.issuerCertificate !== one) {
        one = one.issuerCertificate;
      }
      socket.destroy();
      if (digest(one.raw) !== fingerprint) reject(new Error('the token names another authority'));
      else resolve(new crypto.X509Certificate(one.raw).toString());
    });
    socket.on('error', reject);
  });
}

async function enroll(proto, token, folder) {
  // From the right: the host may hold dots.
  const parts = token.split('.');
  const [fingerprint] = parts.slice(-3);
  const address = parts.slice(1, -3).join('.');
  const [host, port] = [address.slice(0, address.lastIndexOf(':')), address.slice(address.lastIndexOf(':') + 1)];
  const authority = await authorityOf(host, Number(port), fingerprint);

  const key = path.join(folder, 'key.pem');
  const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  fs.writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  const csr = execFileSync('openssl', ['req', '-new', '-key', key, '-subj', '/CN=node', '-outform', 'DER']);

  const { EnrollmentService } = services(proto);
  const answer = await call(new EnrollmentService(address, grpc.credentials.createSsl(Buffer.from(authority))), 'Enroll', {
    request_id: crypto.randomUUID(),
    device_id: crypto.randomUUID(),
    enrollment_token: token,
    csr_der: csr,
    agent_version: 'node',
    consent_version: 1,
  });
  if (answer.code) return answer;
  fs.writeFileSync(path.join(folder, 'chain.pem'), answer.certificate_chain_pem);
  fs.writeFileSync(path.join(folder, 'authority.pem'), authority);
  fs.writeFileSync(path.join(folder, 'run_address'), answer.run_address);
  return { device_id: answer.device_id, run_address: answer.run_address };
}

function runService(proto, folder, withCertificate) {
  const read = (name) => fs.readFileSync(path.join(folder, name));
  const own = withCertificate ? [read('key.pem'), read('chain.pem')] : [];
  const { RunService } = services(proto);
  return new RunService(String(read('run_address')), grpc.credentials.createSsl(read('authority.pem'), ...own));
}

async function submit(proto, folder, file, runId, sequence) {
  const run = fs.readFileSync(file);
  const answer = await call(runService(proto, folder, true), 'SubmitRuns', {
    envelopes: [
      { run_id: runId, run, run_sha256: crypto.createHash('sha256').update(run).digest(), sequence: Number(sequence) },
    ],
  });
  return answer.code ? answer : { outcome: answer.results[0].outcome, reason: answer.results[0].reason };
}

const commands = {
  enroll,
  submit,
  'submit-without-certificate': (proto, folder) => call(runService(proto, folder, false), 'SubmitRuns', {}),
};
const [, , name, ...rest] = process.argv;
commands[name](...rest).then((answer) => console.log(JSON.stringify(answer)));
