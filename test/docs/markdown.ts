/** What is in a Markdown document of this repository: its fenced blocks, its commands, its links, and the anchors that lead into it. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import GithubSlugger from 'github-slugger';
import { lexer, type Token, walkTokens } from 'marked';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A fenced block. */
export interface Block {
  /** From the repository's root: `infra/docs/RUNBOOK.md`. */
  readonly document: string;
  /** The first word behind the fence; empty where there is none. */
  readonly language: string;
  readonly text: string;
}

export interface Link {
  readonly document: string;
  /** As it is written. */
  readonly target: string;
}

export const readDocument = (document: string): string => readFileSync(join(ROOT, document), 'utf8');

/** Every Markdown document of the repository, but for what is installed or built. */
export function allDocuments(folder = ROOT): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : allDocuments(path);
      return entry.name.endsWith('.md') ? [relative(ROOT, path)] : [];
    })
    .sort();
}

const NOT_OURS: ReadonlySet<string> = new Set(['node_modules', '.git', '.build', 'dist']);

/** Those of lists and quotes too. */
export function blocksOf(document: string, text = readDocument(document)): Block[] {
  return tokensOf(text).flatMap((token) =>
    token.type === 'code' && 'lang' in token
      ? [{ document, language: String(token['lang'] ?? '').split(/\s/)[0] ?? '', text: String(token['text']) }]
      : [],
  );
}

export function linksOf(document: string, text = readDocument(document)): Link[] {
  return tokensOf(text).flatMap((token) =>
    token.type === 'link' || token.type === 'image' ? [{ document, target: String(token['href']) }] : [],
  );
}

/** What may stand behind `#` in a link to the document, as GitHub makes it of the headings. */
export function anchorsOf(text: string): Set<string> {
  const slugger = new GithubSlugger();
  return new Set(
    tokensOf(text).flatMap((token) => (token.type === 'heading' ? [slugger.slug(plain(token.tokens ?? []))] : [])),
  );
}

/**
 * The commands of a block in a language of shells: what bash takes for one line of its own, with the lines that it goes on over. Comments are none.
 *
 * @throws Error where the end of the block is in the middle of one
 */
export function commandsOf(block: Block): string[] {
  const commands: string[] = [];
  let open = '';
  for (const line of block.text.split('\n')) {
    if (open === '' && /^\s*(#|$)/.test(line)) continue;
    open += open === '' ? line : `\n${line}`;
    if (!isWhole(open)) continue;
    commands.push(open);
    open = '';
  }
  if (open !== '') throw new Error(`${block.document}: this is no whole command:\n${open}`);
  return commands;
}

/** Languages whose blocks are to be typed at a prompt. */
export const SHELLS: readonly string[] = ['sh', 'bash', 'shell', 'console', 'zsh'];

function isWhole(commands: string): boolean {
  const { status, stderr } = spawnSync('bash', ['-n'], { input: commands, encoding: 'utf8' });
  return status === 0 && !stderr.includes('here-document') && !commands.endsWith('\\');
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  void walkTokens(lexer(text), (token) => {
    tokens.push(token);
  });
  return tokens;
}

function plain(tokens: readonly Token[]): string {
  return tokens
    .map((token) => ('tokens' in token && Array.isArray(token.tokens) ? plain(token.tokens) : textOf(token)))
    .join('');
}

const textOf = (token: Token): string => ('text' in token ? String(token['text']) : '');
