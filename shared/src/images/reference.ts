/**
 * Image references, read by the rules of the Docker CLI and daemon (https://github.com/distribution/reference): what we
 * call an image must be what Docker calls it, or we would check one image and start another.
 */
import { ImageError } from '../errors';
import { excerpt } from '../shell/excerpt';

/** One image, fully named: nothing in it depends on a default any more, except that `tag` may be empty. */
export interface ImageReference {
  /** `docker.io`, `ghcr.io`, `localhost:5000`, `[::1]:5000`: the registry as Docker names it, not where it answers. */
  readonly registry: string;
  /** `library/postgres`, `acme/shop/web`. */
  readonly repository: string;
  /** Empty where there is none. */
  readonly tag: string;
  /** `sha256:...`, empty where there is none. */
  readonly digest: string;
}

/** The registry of a name without one. */
export const DEFAULT_REGISTRY = 'docker.io';

const OFFICIAL = 'library/';
const DOMAIN_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const REGISTRY = new RegExp(`^(?:${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const REPOSITORY_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST_LENGTHS: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);
const MAX_REPOSITORY = 255;

/** What a text names, or a full sentence that says why it names nothing. */
export function parseReference(text: string): { readonly value: ImageReference } | { readonly problem: string } {
  const problem = (why: string): { problem: string } => ({
    problem: `${JSON.stringify(excerpt(text, 300))} is not an image reference: ${why}.`,
  });
  if (text === '') return problem('it is empty');
  if (text !== text.trim()) return problem('it begins or ends with white space');
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text))
    return problem('it begins with a scheme; leave out everything before the host name');
  if (/^[a-f0-9]{64}$/.test(text)) return problem('64 hexadecimal digits are an image ID, which no registry knows');

  const at = text.indexOf('@');
  const digest = at < 0 ? '' : text.slice(at + 1);
  if (at >= 0 && !isDigest(digest))
    return problem('what follows the @ must be `sha256:` and 64 lower-case hexadecimal digits');
  const rest = at < 0 ? text : text.slice(0, at);

  const { registry, path } = splitRegistry(rest);
  if (!REGISTRY.test(registry))
    return problem(`${JSON.stringify(excerpt(registry, 100))} is not a registry's host name`);
  const colon = path.indexOf(':');
  const repository = colon < 0 ? path : path.slice(0, colon);
  const tag = colon < 0 ? '' : path.slice(colon + 1);
  if (colon >= 0 && !TAG.test(tag)) {
    const why = tag === '' ? 'its tag is empty, and ' : '';
    return problem(
      `${why}a tag has 1 to 128 letters, digits, \`_\`, \`.\` and \`-\`, and begins with none of the last two`,
    );
  }
  if (/[A-Z]/.test(repository)) return problem('the name of a repository must be in lower case');
  if (!repository.split('/').every((part) => REPOSITORY_PART.test(part))) {
    return problem(
      'each part of a name has lower-case letters and digits, with single `.`, `_`, `__` or any number of `-` between them',
    );
  }
  if (repository.length > MAX_REPOSITORY) return problem(`the name has more than ${MAX_REPOSITORY} characters`);
  return { value: { registry, repository, tag, digest } };
}

/** @throws ImageError for a text that is not an image reference. */
export function expectReference(text: string): ImageReference {
  const parsed = parseReference(text);
  if ('value' in parsed) return parsed.value;
  throw new ImageError(parsed.problem, 'Write it as [registry/]name[:tag][@sha256:digest], as in `docker pull`.');
}

/** Whether a text is a digest that Docker accepts. */
export function isDigest(text: string): boolean {
  const [algorithm = '', hex = '', ...more] = text.split(':');
  return more.length === 0 && DIGEST_LENGTHS.get(algorithm) === hex.length && /^[a-f0-9]+$/.test(hex);
}

/** `library/postgres` is `docker.io` and the path; a first part is a host only if it could not be a user name. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  if (!looksLikeRegistry(first)) return { registry: DEFAULT_REGISTRY, path: slash < 0 ? OFFICIAL + name : name };
  const path = name.slice(slash + 1);
  if (first !== DEFAULT_REGISTRY && first !== 'index.docker.io') return { registry: first, path };
  return { registry: DEFAULT_REGISTRY, path: path.includes('/') ? path : OFFICIAL + path };
}

function looksLikeRegistry(first: string): boolean {
  return first.includes('.') || first.includes(':') || first === 'localhost' || first !== first.toLowerCase();
}

/** The full form: `docker.io/library/postgres:15`. Adds no tag. */
export function formatCanonical(reference: ImageReference): string {
  return canonicalName(reference) + suffix(reference);
}

/** The form people and Docker's output use: `postgres:15`. Reads back as the same reference. */
export function formatFamiliar(reference: ImageReference): string {
  return familiarName(reference) + suffix(reference);
}

/** `docker.io/library/postgres`. */
export function canonicalName(reference: ImageReference): string {
  return `${reference.registry}/${reference.repository}`;
}

/** `postgres`, `acme/web`, `ghcr.io/acme/web`. */
export function familiarName(reference: ImageReference): string {
  if (reference.registry !== DEFAULT_REGISTRY) return canonicalName(reference);
  const { repository } = reference;
  const short = repository.startsWith(OFFICIAL) ? repository.slice(OFFICIAL.length) : repository;
  const name = short.includes('/') ? repository : short;
  // On Docker Hub no name begins with a host, but the grammar allows it; without the registry it would be read as one.
  return name.includes('/') && looksLikeRegistry(name.slice(0, name.indexOf('/'))) ? canonicalName(reference) : name;
}

function suffix({ tag, digest }: ImageReference): string {
  return (tag === '' ? '' : `:${tag}`) + (digest === '' ? '' : `@${digest}`);
}

/** What is asked of the registry: the digest, else the tag, else `latest`. */
export function wanted(reference: ImageReference): string {
  return reference.digest || reference.tag || 'latest';
}

/**
 * The reference that names these bytes for ever: `name:tag@sha256:...`. The tag is kept, or `latest` written where that is
 * what was asked, for people: Docker goes by the digest alone.
 */
export function pin(reference: ImageReference, digest: string): string {
  const tag = reference.tag !== '' || reference.digest !== '' ? reference.tag : 'latest';
  return formatFamiliar({ ...reference, tag, digest });
}

/** The reference without its digest: the moving name that `pin` was given. */
export function unpin(reference: ImageReference): string {
  return formatFamiliar({ ...reference, digest: '' });
}

/** Whether two references name the same repository, whichever way they are written. */
export function sameRepository(a: ImageReference, b: ImageReference): boolean {
  return a.registry === b.registry && a.repository === b.repository;
}

/**
 * The name under which Docker knows a registry, for text as people write it: `https://index.docker.io/v1/`, `ghcr.io/`,
 * `registry-1.docker.io` and an empty text included.
 */
export function normalizeRegistry(text: string): string {
  const host = text
    .trim()
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/s, '')
    .toLowerCase();
  return host === '' ||
    host === 'index.docker.io' ||
    host === 'registry-1.docker.io' ||
    host === 'hub.docker.com' ||
    host === 'registry.hub.docker.com'
    ? DEFAULT_REGISTRY
    : host;
}
