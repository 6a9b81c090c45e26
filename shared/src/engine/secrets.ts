/** Everything of the inputs that must not be seen, told to the reporter before the first line that could show it. */
import { parseEnv } from 'node:util';
import { listHostSecrets } from '../inputs/connection';
import type { Reporter } from '../ports';
import type { Secret } from '../model/secret';
import type { TransactionInputs } from './inputs';

export function hideSecrets(inputs: SecretInputs, reporter: Pick<Reporter, 'hide'>): void {
  for (const value of listSecrets(inputs)) reporter.hide(value);
}

/** An environment in dotenv form, of the inputs or of a release. */
export function hideEnv(env: Secret, reporter: Pick<Reporter, 'hide'>): void {
  for (const value of new Set(listEnv(env.reveal()))) reporter.hide(value);
}

type SecretInputs = Pick<TransactionInputs, 'host' | 'credentials' | 'githubToken' | 'grafana'> & {
  readonly env?: Secret;
};

/** The secrets and what is derived from them: each value of the env, passwords in URLs, the login as registries are sent it. */
export function listSecrets(inputs: SecretInputs): string[] {
  const secrets = listHostSecrets(inputs.host);
  secrets.push(
    ...listEnv(inputs.env?.reveal() ?? ''),
    inputs.githubToken.reveal(),
    inputs.grafana?.token.reveal() ?? '',
  );
  if (inputs.credentials !== undefined) {
    const { username, password } = inputs.credentials;
    secrets.push(password.reveal(), `${username}:${password.reveal()}`);
  }
  return [...new Set(secrets)].filter((value) => value !== '');
}

function listEnv(env: string): string[] {
  if (env === '') return [];
  return [
    ...Object.values(parseEnv(env)).flatMap((text) => [text ?? '', ...unescapeValue(text ?? '')]),
    ...rawValues(env),
    ...quotedValues(env),
  ]
    .flatMap((value) => [value, ...passwordsInUrl(value)])
    .filter((value) => value !== '');
}

/** Values as they are written: Compose reads some forms of quoting otherwise than Node does. */
function rawValues(env: string): string[] {
  return env.split('\n').flatMap((line) => {
    const value = /^\s*(?:export\s+)?[A-Za-z_][\w.-]*\s*=\s*(.*?)\s*$/.exec(line)?.[1];
    if (value === undefined) return [];
    const bare = value.replace(/\s+#.*$/, '');
    return [value, bare].flatMap((text) => {
      const inner = text.replace(/^(["'])(.*)\1$/s, '$2');
      return [text, inner, ...unescapeValue(inner)];
    });
  });
}

/** As Compose reads it: `$$` is a dollar, `\$`, `\"` and `\\` are what they escape, `\n` is a line break. */
function unescapeValue(text: string): string[] {
  const plain = text.replaceAll(/\\(["'\\$])/g, '$1');
  const broken = text.replaceAll(/\\([\s\S])/g, (_, next: string) => ESCAPES[next] ?? next);
  return [plain, broken].flatMap((form) => [form, form.replaceAll('$$', () => '$')]);
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** Values over several lines, which are quoted: everything between the quotes. */
function quotedValues(env: string): string[] {
  return [...env.matchAll(/=[ \t]*(["'])((?:\\[\s\S]|(?!\1)[^\\])*)\1/g)].flatMap(([, , inner = '']) => [
    inner,
    ...unescapeValue(inner),
  ]);
}

function passwordsInUrl(value: string): string[] {
  const password = /^[a-z][a-z0-9+.-]*:\/\/[^/?#\s:@]*:([^/?#\s]*)@/i.exec(value)?.[1];
  if (password === undefined) return [];
  try {
    return [password, decodeURIComponent(password)];
  } catch {
    return [password];
  }
}
