/**
 * A stand-in for the one call of Grafana's that we make. It holds requests against the documentation, and keeps what is wrong in `problems`.
 * https://grafana.com/docs/grafana/latest/developers/http_api/annotations/#create-annotation
 */
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Ajv } from 'ajv';

export interface KeptAnnotation {
  readonly time: number;
  readonly timeEnd: number;
  readonly tags: readonly string[];
  readonly text: string;
}

/** Grafana's own description, of the fields that are not deprecated: PostAnnotationsCmd in public/openapi3.json. */
const isCommand = new Ajv().compile<KeptAnnotation>({
  type: 'object',
  required: ['text'],
  additionalProperties: false,
  properties: {
    dashboardUID: { type: 'string' },
    panelId: { type: 'integer' },
    time: { type: 'integer', minimum: 1e12 }, // milliseconds: in seconds, it would be 1970
    timeEnd: { type: 'integer', minimum: 1e12 },
    tags: { type: 'array', items: { type: 'string' } },
    text: { type: 'string', minLength: 1 },
    data: { type: 'object' },
  },
});

export class GrafanaApi {
  readonly annotations: KeptAnnotation[] = [];
  readonly problems: string[] = [];
  /** Answers by itself, where it returns true. */
  before: (response: ServerResponse) => boolean = () => false;
  readonly #server: Server;

  constructor(token: string, path = '') {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        if (this.before(response)) return;
        const answer = (status: number, body: object): void => {
          response.writeHead(status, { 'content-type': 'application/json' });
          response.end(JSON.stringify(body));
        };
        const { method = '', url = '', headers } = request;
        if (`${method} ${url}` !== `POST ${path}/api/annotations`) {
          this.problems.push(`${method} ${url}`);
          answer(404, { message: 'Not found' });
          return;
        }
        if (headers.authorization !== `Bearer ${token}`) {
          answer(401, { message: 'Invalid API key' });
          return;
        }
        const body: unknown = JSON.parse(Buffer.concat(chunks).toString());
        if (headers['content-type'] !== 'application/json' || !isCommand(body)) {
          this.problems.push(JSON.stringify([headers['content-type'], body, isCommand.errors]));
          answer(400, { message: 'bad request data' });
          return;
        }
        this.annotations.push(body);
        answer(200, { message: 'Annotation added', id: this.annotations.length });
      });
    });
  }

  /** @returns its port */
  async listen(host = '127.0.0.1'): Promise<number> {
    this.#server.listen(0, host);
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
