import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly authorization: string;
}

/** Answers a request itself by returning true. */
export type Hook = (request: IncomingMessage, response: ServerResponse) => boolean;

export function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** A container registry with what a test puts in it. */
export class TestRegistry {
  readonly seen: SeenRequest[] = [];
  /** Asked before anything else. */
  hook: Hook = () => false;
  readonly #content = new Map<string, { readonly type: string; readonly body: string }>();
  readonly #server: Server;

  constructor(tls?: { readonly key: string; readonly cert: string }) {
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      this.seen.push({
        method: request.method ?? '',
        url: request.url ?? '',
        authorization: request.headers.authorization ?? '',
      });
      if (!this.hook(request, response)) this.#answer(request, response);
    };
    this.#server = tls === undefined ? createServer(handle) : createTlsServer(tls, handle);
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  put(
    path: string,
    type: string,
    document: unknown,
  ): { readonly digest: string; readonly size: number; readonly mediaType: string } {
    const body = typeof document === 'string' ? document : JSON.stringify(document);
    const digest = digestOf(body);
    const [repository = '', kind = ''] = /^(.*)\/(manifests|blobs)\//.exec(path)?.slice(1) ?? [];
    for (const key of [path, `${repository}/${kind}/${digest}`]) this.#content.set(`/v2/${key}`, { type, body });
    return { digest, size: Buffer.byteLength(body), mediaType: type };
  }

  /** An image with one layer for each size. */
  putImage(
    repository: string,
    tag: string,
    sizes: readonly number[],
    config: Readonly<Record<string, unknown>> = { os: 'linux', architecture: 'amd64' },
  ): { readonly digest: string; readonly size: number; readonly mediaType: string } {
    const configuration = this.put(`${repository}/blobs/config-${tag}`, 'application/vnd.oci.image.config.v1+json', {
      rootfs: { type: 'layers', diff_ids: sizes.map((size) => digestOf(`diff ${size}`)) },
      ...config,
    });
    return this.put(`${repository}/manifests/${tag}`, 'application/vnd.oci.image.manifest.v1+json', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: configuration,
      layers: sizes.map((size) => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest: digestOf(`layer ${size}`),
        size,
      })),
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    const found = this.#content.get(path);
    if (found === undefined) {
      const isManifest = path.includes('/manifests/');
      answerError(response, 404, isManifest ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN', 'manifest unknown');
      return;
    }
    response.writeHead(200, { 'content-type': found.type, 'docker-content-digest': digestOf(found.body) });
    response.end(request.method === 'HEAD' ? undefined : found.body);
  }
}

export function answerError(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify({ errors: [{ code, message }] }));
}

export function answerJson(response: ServerResponse, status: number, document: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(document));
}
