// hello: counts visits in Redis and greets. SIGTERM ends it politely; POST /crash ends it like a real bug would.
'use strict';

const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const log = require('./log');
const { Redis } = require('./redis');

const redis = new Redis(process.env.REDIS_HOST || '127.0.0.1', Number(process.env.REDIS_PORT || 6379));
const page = fs.readFileSync(path.join(__dirname, 'public', 'index.html'), 'utf8');
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

async function home(request, response) {
  const visits = await redis.command('INCR', 'visits');
  const values = {
    greeting: process.env.GREETING || 'hello',
    visits,
    host: os.hostname(),
    version: process.env.APP_VERSION || 'dev',
    scheme: request.headers['x-forwarded-proto'] || 'http',
  };
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  response.end(page.replace(/\{\{(\w+)\}\}/g, (_, name) => escape(values[name] ?? '')));
}

async function health(_request, response) {
  const pong = await redis.command('PING');
  response.writeHead(pong === 'PONG' ? 200 : 503, { 'content-type': 'text/plain' });
  response.end(pong + '\n');
}

function crash(_request, response) {
  response.end('going down\n', () => {
    setImmediate(() => { throw new Error('the hull is leaking (asked for by POST /crash)'); });
  });
}

const routes = { 'GET /': home, 'GET /healthz': health, 'POST /crash': crash };

const server = http.createServer(async (request, response) => {
  const started = process.hrtime.bigint();
  const url = request.url.split('?')[0];
  const handler = routes[`${request.method} ${url}`];
  try {
    if (handler) await handler(request, response);
    else response.writeHead(404, { 'content-type': 'text/plain' }).end('no such page\n');
  } catch (error) {
    log.error('request failed', { url, error: error.message });
    if (!response.headersSent) response.writeHead(503, { 'content-type': 'text/plain' });
    response.end('not now\n');
  }
  if (url !== '/healthz') {
    const ms = Number(process.hrtime.bigint() - started) / 1e6;
    log.info('request', { method: request.method, url, status: response.statusCode, ms: Number(ms.toFixed(2)) });
  }
});

process.on('SIGTERM', () => {
  log.info('stopping');
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
process.on('uncaughtException', (error) => {
  log.error('uncaught', { error: error.message });
  process.exitCode = 70;
  process.exit();
});

server.listen(3000, () => log.info('listening', { port: 3000, version: process.env.APP_VERSION }));
