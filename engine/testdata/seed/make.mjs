// Makes sessions.json and sessions.enc with the code of n8n-mcp's session persistence guide, in Node:
//
//	node make.mjs
//
// The IV is fixed so that it makes the same files again. TestSeedFiles reads them.
import crypto from 'node:crypto';
import fs from 'node:fs';

export const encryptionKey = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const iv = Buffer.from(Array.from({ length: 16 }, (_, i) => 0xa0 + i));

const at = (createdAt, lastAccess) => ({ createdAt: new Date(createdAt).toISOString(), lastAccess: new Date(lastAccess).toISOString() });
const sessions = [
  {
    sessionId: '550e8400-e29b-41d4-a716-446655440000',
    metadata: at('2025-11-24T10:30:00Z', '2025-11-24T17:15:32Z'),
    context: { n8nApiUrl: 'https://tenant1.n8n.cloud', n8nApiKey: 'n8n_api_1', instanceId: 'tenant-123', metadata: { userId: 'user-456' } },
  },
  {
    sessionId: 'instance-tenant-124-0a1b2c3d-7c9e6679-7425-40de-944b-e07fc1f90ae7',
    metadata: at('2025-11-24T10:31:00.001Z', '2025-11-24T17:15:33.999Z'),
    context: { n8nApiUrl: 'https://tenant2.n8n.cloud', n8nApiKey: 'n8n_api_2', instanceId: 'tenant-124', sessionId: 'chat <1> & "ü 💤"', metadata: { html: '<b>', n: 1.5, deep: [{ a: null }] } },
  },
  {
    sessionId: '9b2f1c6e-0000-4000-8000-000000000001',
    metadata: at('2025-11-24T10:32:00Z', '2025-11-24T10:32:00Z'),
    context: { n8nApiUrl: 'https://tenant3.n8n.cloud', n8nApiKey: 'n8n_api_3', instanceId: '9b2f1c6e-0000-4000-8000-000000000001' },
  },
];
const cipher = crypto.createCipheriv('aes-256-gcm', encryptionKey, iv);
const json = JSON.stringify(sessions);
const encrypted = Buffer.concat([cipher.update(json, 'utf8'), cipher.final()]);
const text = [iv, cipher.getAuthTag(), encrypted].map((b) => b.toString('base64')).join(':');
fs.writeFileSync(new URL('sessions.json', import.meta.url), json);
fs.writeFileSync(new URL('sessions.enc', import.meta.url), text);
