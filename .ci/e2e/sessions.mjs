// n8n-mcp's own engine, and the code of its session persistence guide, for the end-to-end suite.
//
//	node sessions.mjs serve PORT          serves /mcp with N8NMCPEngine; POST /export answers exportSessionState()
//	node sessions.mjs restore FILE        prints what restoreSessionState() says of a JSON array
//	node sessions.mjs encrypt FILE KEY    prints the guide's encrypted form; KEY in hexadecimal
//	node sessions.mjs decrypt FILE KEY    prints the JSON in it
import crypto from 'node:crypto';
import fs from 'node:fs';
import express from 'express';

function encryptSessionData(json, encryptionKey) {
  const iv = crypto.randomBytes(16);
  const cipher = crypto.createCipheriv('aes-256-gcm', encryptionKey, iv);
  const encrypted = Buffer.concat([cipher.update(json, 'utf8'), cipher.final()]);
  return [iv.toString('base64'), cipher.getAuthTag().toString('base64'), encrypted.toString('base64')].join(':');
}

function decryptSessionData(encryptedData, encryptionKey) {
  const [ivB64, authTagB64, encryptedB64] = encryptedData.split(':');
  const decipher = crypto.createDecipheriv('aes-256-gcm', encryptionKey, Buffer.from(ivB64, 'base64'));
  decipher.setAuthTag(Buffer.from(authTagB64, 'base64'));
  return Buffer.concat([decipher.update(Buffer.from(encryptedB64, 'base64')), decipher.final()]).toString('utf8');
}

async function newEngine() {
  const { N8NMCPEngine } = (await import('n8n-mcp')).default;
  return new N8NMCPEngine({ logLevel: 'error' });
}

const [, , op, arg, key] = process.argv;
switch (op) {
  case 'encrypt':
    process.stdout.write(encryptSessionData(fs.readFileSync(arg, 'utf8'), Buffer.from(key, 'hex')));
    break;
  case 'decrypt':
    process.stdout.write(decryptSessionData(fs.readFileSync(arg, 'utf8'), Buffer.from(key, 'hex')));
    break;
  case 'restore': {
    const engine = await newEngine();
    process.stdout.write(`restored=${engine.restoreSessionState(JSON.parse(fs.readFileSync(arg, 'utf8')))}\n`);
    process.exit(0);
  }
  case 'serve': {
    const engine = await newEngine();
    const app = express();
    app.use(express.json());
    app.post('/export', (req, res) => res.json(engine.exportSessionState()));
    app.all('/mcp', (req, res) => {
      const h = req.headers;
      const context = { n8nApiUrl: h['x-n8n-url'], n8nApiKey: h['x-n8n-key'], instanceId: h['x-instance-id'], n8nApiTimeout: 45000, n8nApiMaxRetries: 5 };
      engine.processRequest(req, res, context).catch((err) => console.error(err));
    });
    app.listen(Number(arg), '127.0.0.1');
    break;
  }
  default:
    throw new Error(`no operation ${op}`);
}
