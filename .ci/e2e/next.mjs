// An MCP server of the TypeScript SDK's second generation: it speaks the stateless protocol (2026-07-28) and, without
// sessions, the ones before. For the end-to-end suite.
//
//	node next.mjs PORT
import http from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { z } from 'zod';

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'next', version: '1.0.0' });
  const inputSchema = z.object({ message: z.string() });
  server.registerTool('echo', { description: 'says what it hears', inputSchema }, async ({ message }) => ({
    content: [{ type: 'text', text: `Echo: ${message}` }],
  }));
  return server;
});
http.createServer(toNodeHandler(handler)).listen(Number(process.argv[2]), '127.0.0.1');
