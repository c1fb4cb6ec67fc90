// Run in the build's first stage: the image isn't made when this fails.
'use strict';

const assert = require('assert');
const { parse, encode } = require('./redis');

assert.strictEqual(encode(['INCR', 'visits']), '*2\r\n$4\r\nINCR\r\n$6\r\nvisits\r\n');
assert.deepStrictEqual(parse(Buffer.from(':42\r\n')), { value: 42, next: 5 });
assert.deepStrictEqual(parse(Buffer.from('$2\r\nhi\r\n')), { value: 'hi', next: 8 });
assert.strictEqual(parse(Buffer.from('$5\r\nhi')), null);
assert.strictEqual(parse(Buffer.from('-ERR no\r\n')).value.message, 'ERR no');
console.log('selftest: 5 checks passed on node ' + process.version);
