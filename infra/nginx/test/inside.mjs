/**
 * What runs inside the test's machine, beside nginx: doors (a Unix socket that the test connects to, for each port of nginx), and
 * the applications behind nginx. Each connection through a door comes from an address of its own, as a visitor's would.
 */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';

const [folder = ''] = process.argv.slice(2);
let visitors = 0;

async function openDoor(port) {
  const path = join(folder, `${port}.sock`);
  await rm(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (near) => {
    visitors += 1;
    const far = connect({
      port,
      host: '127.0.0.1',
      localAddress: `127.1.${visitors >> 8}.${visitors & 255}`,
      allowHalfOpen: true,
    });
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
    far.on('close', () => near.destroy());
    near.on('close', () => far.destroy());
  });
  await new Promise((resolve) => server.listen(path, resolve));
}

/** Path to how often each application was asked for it. */
const asked = {};

/**
 * An application. `?status=404` and `?header=Name:value` say what it answers; `?drop` reads the request and hangs up, on the
 * application of that name alone or on all.
 */
function answer(name, request, response) {
  const url = new URL(request.url, 'http://application');
  if (url.pathname === '/asked') {
    response.end(JSON.stringify(asked));
    return;
  }
  const key = `${request.method} ${url.pathname} ${name}`;
  asked[key] = (asked[key] ?? 0) + 1;
  const drops = url.searchParams.get('drop');
  if (drops === name || drops === '') {
    request.resume();
    request.on('end', () => request.socket.destroy());
    return;
  }
  response.statusCode = Number(url.searchParams.get('status') ?? 200);
  for (const header of url.searchParams.getAll('header')) {
    const [, field, value] = /^([^:]+):(.*)$/.exec(header);
    response.appendHeader(field, value);
  }
  response.setHeader('X-Served-By', name);
  if (!response.hasHeader('Content-Type')) response.setHeader('Content-Type', 'application/json');
  const padding = ' '.repeat(Number(url.searchParams.get('padding') ?? 0));
  response.end(JSON.stringify({ url: request.url, method: request.method, headers: request.headers, padding }));
}

async function startApplication(name, port) {
  const server = createHttpServer((request, response) => answer(name, request, response));
  server.on('upgrade', (request, socket) => {
    // https://www.rfc-editor.org/rfc/rfc6455#section-1.3
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.pipe(socket);
    socket.on('error', () => socket.destroy());
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
}

for (const port of [80, 443, 8081]) await openDoor(port);
await startApplication('a', 3001);
await startApplication('b', 3002);
console.log('ready');
