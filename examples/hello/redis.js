// A Redis client for the three commands that this app needs, over RESP2. Small enough to read, real enough to
// reconnect, to pipeline and to fail loudly.
'use strict';

const net = require('net');

// Parses one RESP2 reply at `at`; null when more bytes are needed.
function parse(buffer, at = 0) {
  const end = buffer.indexOf('\r\n', at);
  if (end < 0) return null;
  const line = buffer.toString('utf8', at + 1, end);
  const next = end + 2;
  switch (String.fromCharCode(buffer[at])) {
    case '+': return { value: line, next };
    case '-': return { value: new Error(line), next };
    case ':': return { value: Number(line), next };
    case '$': {
      const length = Number(line);
      if (length < 0) return { value: null, next };
      if (buffer.length < next + length + 2) return null;
      return { value: buffer.toString('utf8', next, next + length), next: next + length + 2 };
    }
    default: return { value: new Error('unknown reply ' + JSON.stringify(line)), next };
  }
}

function encode(words) {
  return `*${words.length}\r\n` + words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('');
}

class Redis {
  constructor(host, port) {
    this.host = host;
    this.port = port;
    this.socket = null;
    this.pending = Buffer.alloc(0);
    this.waiting = [];
  }

  connect() {
    if (this.socket) return;
    this.socket = net.connect(this.port, this.host);
    this.socket.setTimeout(2000, () => this.socket && this.socket.destroy(new Error('redis: timeout')));
    this.socket.on('data', (chunk) => this.receive(chunk));
    this.socket.on('error', (error) => this.fail(error));
    this.socket.on('close', () => this.fail(new Error('redis: connection closed')));
  }

  receive(chunk) {
    this.pending = Buffer.concat([this.pending, chunk]);
    for (let reply; (reply = parse(this.pending)); ) {
      this.pending = this.pending.subarray(reply.next);
      const { resolve, reject } = this.waiting.shift();
      if (reply.value instanceof Error) reject(reply.value); else resolve(reply.value);
    }
    if (this.waiting.length === 0) this.socket.setTimeout(0);
  }

  fail(error) {
    this.socket = null;
    this.pending = Buffer.alloc(0);
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }

  command(...words) {
    this.connect();
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.setTimeout(2000);
      this.socket.write(encode(words.map(String)));
    });
  }
}

module.exports = { Redis, parse, encode };
