/** An HTTP proxy on loopback that stands before a real server and does to chosen requests what networks do. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request as ask, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  /** With the query. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export type Fate =
  /** It goes through. */
  | 'pass'
  /** The connection is reset when some of the body (or, without one, the request) has come. */
  | 'reset'
  /** Nothing is read any more, and nothing answered. */
  | 'hang'
  /** It is carried out, but the answer gets lost. */
  | 'lose-answer'
  /** It arrives with a change in its body. */
  | 'flip-a-bit'
  /** Of the answer's body only so much is let through, then the connection is reset. */
  | { readonly cutAnswerAt: number }
  | { readonly status: number; readonly body: string };

export interface SabotagingProxy {
  readonly endpoint: string;
  readonly seen: readonly SeenRequest[];
  /** Decides on each request that comes from here on. */
  decide(fate: (request: SeenRequest) => Fate): void;
  close(): Promise<void>;
}

export async function startSabotagingProxy(target: string): Promise<SabotagingProxy> {
  const seen: SeenRequest[] = [];
  let choose: (request: SeenRequest) => Fate = () => 'pass';
  const server = createServer((incoming, answer) => {
    incoming.on('error', () => undefined);
    answer.on('error', () => undefined);
    const request = { method: incoming.method ?? '', url: incoming.url ?? '', headers: incoming.headers };
    seen.push(request);
    meet(choose(request), target, incoming, answer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    decide: (fate) => {
      choose = fate;
    },
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function meet(fate: Fate, target: string, incoming: IncomingMessage, answer: ServerResponse): void {
  if (fate === 'hang') {
    incoming.pause();
  } else if (fate === 'reset') {
    if (Number(incoming.headers['content-length'] ?? 0) > 0) {
      incoming.once('data', () => incoming.socket.resetAndDestroy());
    } else {
      incoming.socket.resetAndDestroy();
    }
  } else if (typeof fate === 'object' && 'status' in fate) {
    incoming.resume().once('end', () => {
      answer.writeHead(fate.status, { 'content-type': 'application/xml' }).end(fate.body);
    });
  } else {
    forward(fate, target, incoming, answer);
  }
}

/** The Host header stays: it is signed. */
function forward(fate: Fate, target: string, incoming: IncomingMessage, answer: ServerResponse): void {
  const onward = ask(
    new URL(incoming.url ?? '/', target),
    { method: incoming.method ?? 'GET', headers: incoming.headers, agent: false },
    (response) => {
      response.on('error', () => answer.destroy());
      if (fate === 'lose-answer') {
        response.resume().once('end', () => incoming.socket.resetAndDestroy());
        return;
      }
      answer.writeHead(response.statusCode ?? 502, response.headers);
      if (typeof fate !== 'object' || !('cutAnswerAt' in fate)) {
        response.pipe(answer);
        return;
      }
      let passed = 0;
      if (fate.cutAnswerAt === 0) {
        incoming.socket.resetAndDestroy();
        return;
      }
      response.on('data', (chunk: Buffer) => {
        if (passed >= fate.cutAnswerAt) return;
        const passing = chunk.subarray(0, fate.cutAnswerAt - passed);
        passed += passing.length;
        answer.write(passing, () => {
          if (passed >= fate.cutAnswerAt) incoming.socket.resetAndDestroy();
        });
      });
    },
  );
  onward.on('error', () => answer.destroy());
  // Who leaves in the middle leaves the server, too.
  incoming.once('close', () => {
    if (!incoming.complete) onward.destroy();
  });
  if (fate !== 'flip-a-bit') {
    incoming.pipe(onward);
    return;
  }
  incoming.once('data', (chunk: Buffer) => {
    chunk.writeUInt8(chunk.readUInt8(0) ^ 1, 0);
    onward.write(chunk);
    incoming.pipe(onward);
  });
}
