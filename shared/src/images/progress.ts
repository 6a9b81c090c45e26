/** How far a pull is, from what the Engine API or `docker pull` tells. Pure. */
import { type Json, readNumber, readText } from '../json';
import { formatBytes, formatBytesOf } from './size';

export interface PullState {
  readonly layersDone: number;
  readonly layers: number;
  readonly bytesDone: number;
  /** 0 where it is not known. */
  readonly bytes: number;
}

interface Layer {
  done: boolean;
  downloaded: boolean;
  current: number;
  /** 0 where it is not known yet. */
  total: number;
  /** It was on the server before. */
  local: boolean;
}

/** `<12 hex digits>: Pull complete`, as `docker pull` prints without a terminal. */
const CLI_LINE = /^([0-9a-f]{12,64}): (.{1,200})$/;
const DIGEST_LINE = /^Digest: (sha(?:256|384|512):[0-9a-f]{64,128})\s*$/;
const MAX_LAYERS = 1000;

/** Collects what is told of one pull. What it does not understand it passes over: the words are the daemon's and change. */
export class PullProgress {
  readonly #layers = new Map<string, Layer>();
  readonly #expected = new Map<string, number>();
  #digest = '';

  /** @param expected the layers of the image, so that its size is known before Docker tells it, or where it never does. */
  constructor(expected: readonly { readonly digest: string; readonly bytes: number }[] = []) {
    for (const { digest, bytes } of expected) this.#expected.set(shortId(digest), bytes);
  }

  /** What the daemon said to have pulled; empty before the end. */
  get digest(): string {
    return this.#digest;
  }

  /** One message of `POST /images/create`. */
  addMessage(message: Json): void {
    const status = readText(message, 'status');
    const id = readText(message, 'id');
    this.#readDigest(status);
    if (!/^[0-9a-f]{12,64}$/.test(id)) return;
    this.#update(
      id,
      status,
      readNumber(message, 'progressDetail', 'current'),
      readNumber(message, 'progressDetail', 'total'),
    );
  }

  /** One line of `docker pull`. */
  addLine(line: string): void {
    this.#readDigest(line);
    const [, id, status] = CLI_LINE.exec(line.trimEnd()) ?? [];
    if (id !== undefined && status !== undefined) this.#update(id, status, 0, 0);
  }

  #readDigest(text: string): void {
    this.#digest = DIGEST_LINE.exec(text)?.[1] ?? this.#digest;
  }

  #update(id: string, status: string, current: number, total: number): void {
    const key = id.slice(0, 12);
    if (!this.#layers.has(key) && this.#layers.size >= MAX_LAYERS) return;
    const layer = this.#layers.get(key) ?? {
      done: false,
      downloaded: false,
      current: 0,
      total: this.#expected.get(key) ?? 0,
      local: false,
    };
    switch (status) {
      case 'Pulling fs layer':
      case 'Waiting':
        break;
      case 'Downloading':
        layer.current = positive(current);
        if (layer.total === 0) layer.total = positive(total);
        break;
      case 'Verifying Checksum':
      case 'Download complete':
      case 'Extracting':
        layer.downloaded = true;
        break;
      case 'Pull complete':
        layer.downloaded = true;
        layer.done = true;
        break;
      case 'Already exists':
        layer.local = true;
        layer.done = true;
        break;
      default:
        if (!status.startsWith('Retrying in ')) return;
        layer.current = 0;
    }
    this.#layers.set(key, layer);
  }

  get state(): PullState {
    const layers = [...this.#layers.values()];
    const fetched = layers.filter(({ local }) => !local);
    return {
      layersDone: layers.filter(({ done }) => done).length,
      layers: layers.length,
      bytesDone: sum(fetched.map((layer) => (layer.downloaded ? layer.total || layer.current : layer.current))),
      bytes: fetched.every(({ total }) => total > 0) ? sum(fetched.map(({ total }) => total)) : 0,
    };
  }
}

function shortId(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, 12);
}

function positive(value: number): number {
  return Number.isFinite(value) && value > 0 ? value : 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** `pulling web 3/7 layers, 41.2 of 120.4 MB, 12 s`. */
export function formatProgress(name: string, state: PullState, seconds: number): string {
  const parts = [
    state.layers === 0 ? `pulling ${name}` : `pulling ${name} ${state.layersDone}/${state.layers} layers`,
    ...(state.bytes > 0
      ? [formatBytesOf(Math.min(state.bytesDone, state.bytes), state.bytes)]
      : state.bytesDone > 0
        ? [formatBytes(state.bytesDone)]
        : []),
    `${Math.round(seconds)} s`,
  ];
  return parts.join(', ');
}

/** `pulled web: 7 layers, 120.4 MB, 14 s`. */
export function formatPulled(name: string, state: PullState, seconds: number): string {
  if (state.layers === 0) return `pulled ${name}: it was there already, ${Math.round(seconds)} s`;
  const layers = `${state.layers} ${state.layers === 1 ? 'layer' : 'layers'}`;
  const size = state.bytesDone > 0 ? `, ${formatBytes(state.bytesDone)}` : '';
  return `pulled ${name}: ${layers}${size}, ${Math.round(seconds)} s`;
}
