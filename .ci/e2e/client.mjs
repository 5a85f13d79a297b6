// Real MCP clients under remote control: many TypeScript SDK clients in one process, driven by JSON lines.
// A command is {id, op, client, ...}; its answer {id, ok, ms, ...} or {id, ok: false, ms, error}. What a client
// reports by itself comes as {event, client, ...}. The Go side is cmd/dormouse/e2e/driver_test.go.
import { createInterface } from 'node:readline';

const clients = new Map();

// load imports an SDK of the first generation by its package, or the second generation: '@modelcontextprotocol/client'.
async function load(sdk) {
  if (sdk === '@modelcontextprotocol/client') {
    const { Client, StreamableHTTPClientTransport: Transport } = await import(sdk);
    return { Client, Transport, logged: 'notifications/message', second: true };
  }
  const [{ Client }, { StreamableHTTPClientTransport: Transport }, { LoggingMessageNotificationSchema: logged }] = await Promise.all([
    import(`${sdk}/client/index.js`), import(`${sdk}/client/streamableHttp.js`), import(`${sdk}/types.js`),
  ]);
  return { Client, Transport, logged };
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function describe(err) {
  const causes = [];
  for (let e = err; e && causes.length < 5; e = e.cause) causes.push(e.code ? `${e.message} (${e.code})` : e.message);
  return { name: err?.name ?? 'Error', code: err?.code ?? null, message: causes.join(': ') };
}

function client(name) {
  const c = clients.get(name);
  if (!c) throw new Error(`no client ${name}`);
  return c;
}

const ops = {
  async connect({ client: name, url, headers, sdk }) {
    const { Client, Transport, logged, second } = await load(sdk ?? '@modelcontextprotocol/sdk');
    const transport = new Transport(new URL(url), { requestInit: { headers: headers ?? {} } });
    const options = second ? { versionNegotiation: { mode: 'auto' } } : {};
    const mcp = new Client({ name: `e2e-${name}`, version: '1.0.0' }, { capabilities: {}, ...options });
    mcp.onerror = (err) => say({ event: 'error', client: name, error: describe(err) });
    mcp.onclose = () => say({ event: 'close', client: name });
    mcp.setNotificationHandler(logged, (n) => say({ event: 'log', client: name, params: n.params }));
    await mcp.connect(transport);
    clients.set(name, { mcp, transport, second });
    return { sessionId: transport.sessionId ?? '', protocol: transport.protocolVersion ?? '', server: mcp.getServerVersion() };
  },
  async tools({ client: name, timeoutMs }) {
    const { tools } = await client(name).mcp.listTools(undefined, { timeout: timeoutMs });
    return { tools: tools.map((t) => t.name) };
  },
  async call({ client: name, tool, args, timeoutMs }) {
    const { mcp, transport, second } = client(name);
    const options = { timeout: timeoutMs };
    const result = await mcp.callTool({ name: tool, arguments: args ?? {} }, ...(second ? [options] : [undefined, options]));
    return { sessionId: transport.sessionId ?? '', result };
  },
  async terminate({ client: name }) {
    const { mcp, transport } = client(name);
    clients.delete(name);
    await transport.terminateSession();
    await mcp.close();
    return {};
  },
  async close({ client: name }) {
    const { mcp } = client(name);
    clients.delete(name);
    await mcp.close();
    return {};
  },
};

async function handle(command) {
  const began = performance.now();
  const ms = () => Math.round(performance.now() - began);
  try {
    if (!Object.hasOwn(ops, command.op)) throw new Error(`no operation ${command.op}`);
    const answer = await ops[command.op](command);
    say({ id: command.id, ok: true, ms: ms(), ...answer });
  } catch (err) {
    say({ id: command.id, ok: false, ms: ms(), error: describe(err) });
  }
}

const input = createInterface({ input: process.stdin });
input.on('line', (line) => void handle(JSON.parse(line)));
input.on('close', () => process.exit(0)); // whoever drives us is gone
say({ event: 'ready' });
