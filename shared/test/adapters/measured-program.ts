/** Runs a piece of our code in a process of its own, to see how much memory it takes at most: Jest's own would hide that. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';

const ADAPTERS = join(import.meta.dirname, '..', '..', 'src', 'adapters');

export interface Measured {
  /** The most that was resident at any time, the whole of Node included. */
  readonly peakMib: number;
  /** What the program gave: `report(value)`. */
  readonly value: unknown;
}

/**
 * @param program TypeScript, the body of an async function; it has `age`, `objectStore`, `secret` (the modules), `stream`,
 * `crypto` (Node's) and `report`
 */
export async function measureProgram(program: string, env: Readonly<Record<string, string>> = {}): Promise<Measured> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-measured-'));
  try {
    const outfile = join(folder, 'program.cjs');
    await build({
      stdin: { contents: frame(program), loader: 'ts', resolveDir: ADAPTERS },
      bundle: true,
      platform: 'node',
      format: 'cjs',
      logLevel: 'silent',
      outfile,
    });
    const { stdout } = await promisify(execFile)(process.execPath, [outfile], {
      env: { ...process.env, NODE_OPTIONS: '', ...env },
    });
    return JSON.parse(stdout) as Measured;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function frame(program: string): string {
  return `
    import * as age from './age';
    import { spareMemory } from './garbage';
    import * as objectStore from './object-store';
    import * as secret from '../model/secret';
    import * as stream from 'node:stream';
    import * as crypto from 'node:crypto';
    spareMemory();
    let value: unknown;
    const report = (given: unknown) => { value = given; };
    const main = async () => { ${program} };
    void main().then(() => {
      const peakMib = Math.round(process.resourceUsage().maxRSS / 1024);
      process.stdout.write(JSON.stringify({ peakMib, value }));
    });
  `;
}
