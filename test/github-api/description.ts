/**
 * GitHub's own description of its API (operations.json, made by scripts/extract-github-operations.mjs), as a judge of requests
 * and answers. Stricter than GitHub, which ignores what it does not know: that is how a misspelt parameter goes unnoticed.
 */
import { readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';

type Schema = Readonly<Record<string, unknown>>;

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query';
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly body?: Schema;
  /** It takes a file as its body, instead. */
  readonly file?: true;
  readonly responses: Readonly<Record<string, { readonly schema?: Schema; readonly example?: unknown }>>;
}

interface Description {
  readonly source: string;
  readonly error: Schema;
  readonly operations: readonly Operation[];
}

export const description = JSON.parse(readFileSync(new URL('operations.json', import.meta.url), 'utf8')) as Description;

/** https://docs.github.com/rest/about-the-rest-api/api-versions; the description has no word of it. */
const API_VERSIONS = ['2022-11-28'];

/** The words of OpenAPI 3.0 that are not JSON Schema's: `nullable` beside what ajv does not take it beside. */
function translate(schema: unknown, closed: boolean): unknown {
  if (Array.isArray(schema)) return schema.map((one) => translate(one, closed));
  if (typeof schema !== 'object' || schema === null) return schema;
  const { nullable, ...rest } = Object.fromEntries<unknown>(
    Object.entries(schema as Schema).map(([key, value]) => [key, key === 'enum' ? value : translate(value, closed)]),
  );
  const isObject = 'properties' in rest && rest['properties'] !== null;
  const whole =
    closed && isObject && !('additionalProperties' in rest) ? { ...rest, additionalProperties: false } : rest;
  return nullable === true ? { anyOf: [whole, { type: 'null' }] } : whole;
}

const ajv = new Ajv({
  allErrors: true,
  // `default` and the like stand in places where they have no effect; formats and types are checked all the same.
  strict: true,
  strictTypes: false,
  strictRequired: false,
  allowUnionTypes: true,
});
ajv.addFormat('uri', (text: string) => URL.canParse(text));
ajv.addFormat('email', /^[^@\s]+@[^@\s]+$/);
ajv.addFormat('int64', { type: 'number', validate: Number.isSafeInteger });
ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);

const compiled = new Map<string, ValidateFunction>();

function check(name: string, schema: Schema, closed: boolean, value: unknown): string[] {
  const key = `${closed ? 'closed' : 'open'} ${name}`;
  const validate = compiled.get(key) ?? ajv.compile(translate(schema, closed) as Schema);
  compiled.set(key, validate);
  if (validate(value)) return [];
  return (validate.errors ?? []).map(
    (error) => `${name}${error.instancePath} ${error.message ?? ''} ${JSON.stringify(error.params)}`,
  );
}

export interface AskedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

export interface Matched {
  readonly operation: Operation;
  readonly path: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
}

/** @returns undefined where GitHub has no such operation (among those that we use). */
export function findOperation(method: string, url: string): Matched | undefined {
  const { pathname, searchParams } = new URL(url, 'http://api');
  for (const operation of description.operations) {
    const pattern = operation.path.replaceAll(/[.*+?^$()|[\]\\]/g, '\\$&').replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)');
    const match = new RegExp(`^${pattern}$`).exec(pathname);
    if (operation.method !== method || match === null) continue;
    const path = Object.fromEntries<string>(
      Object.entries<string>(match.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]),
    );
    return { operation, path, query: Object.fromEntries<string>(searchParams) };
  }
  return undefined;
}

/** Everything about a request that is not as GitHub describes it. */
export function judgeRequest(request: AskedRequest): string[] {
  const matched = findOperation(request.method, request.url);
  if (matched === undefined) return [`${request.method} ${request.url} is no operation`];
  const { operation, path, query } = matched;
  const known = new Map(operation.parameters.map((parameter) => [parameter.name, parameter]));
  const problems = operation.parameters
    .filter(({ name, required, in: place }) => required === true && !(name in (place === 'path' ? path : query)))
    .map(({ name }) => `${name} is missing`);
  for (const [place, values] of [
    ['path', path],
    ['query', query],
  ] as const) {
    for (const [name, text] of Object.entries(values)) {
      const parameter = known.get(name);
      if (parameter?.in !== place) problems.push(`${place} parameter ${name} is not known`);
      else problems.push(...check(name, parameter.schema, true, readParameter(text, parameter.schema)));
    }
  }
  return [...problems, ...judgeHeaders(operation, request), ...judgeBody(operation, request.body)];
}

function readParameter(text: string, schema: Schema): unknown {
  return schema['type'] === 'integer' && /^\d+$/.test(text) ? Number(text) : text;
}

/** https://docs.github.com/rest/using-the-rest-api/getting-started-with-the-rest-api#about-request-headers */
function judgeHeaders({ file }: Operation, { headers, body }: AskedRequest): string[] {
  const contentType = file === true ? /^[\w.+-]+\/[\w.+-]+$/ : /^application\/json(; charset=utf-8)?$/;
  const demands: readonly (readonly [name: string, isRight: (value: string) => boolean])[] = [
    ['authorization', (value) => /^(token|bearer) \S+$/i.test(value)],
    ['accept', (value) => value === 'application/vnd.github+json'],
    ['x-github-api-version', (value) => API_VERSIONS.includes(value)],
    ['user-agent', (value) => value.startsWith('slipway')],
    ...(body === '' ? [] : ([['content-type', (value: string) => contentType.test(value)]] as const)),
  ];
  return demands.flatMap(([name, isRight]) => {
    const value = headers[name];
    return typeof value === 'string' && isRight(value) ? [] : [`header ${name} is not as it must be`];
  });
}

function judgeBody({ body: schema, file, id }: Operation, text: string): string[] {
  if (file === true) return text === '' ? ['there is no file'] : [];
  if (schema === undefined) return text === '' ? [] : ['there is a body'];
  let body: unknown;
  try {
    body = JSON.parse(text) as unknown;
  } catch {
    return ['the body is not JSON'];
  }
  const problems = check(`body of ${id}`, schema, true, body);
  // Said in words only: "The maximum description length is 140 characters."
  const said = (body as { readonly description?: unknown } | null)?.description;
  return id === 'repos/create-deployment-status' && typeof said === 'string' && said.length > 140
    ? [...problems, `the description has ${said.length} characters`]
    : problems;
}

/** Everything about an answer that is not as GitHub describes it: a stand-in must not be kinder than GitHub. */
export function judgeAnswer(operation: Operation, status: number, body: unknown): string[] {
  const described = operation.responses[String(status)];
  // Any operation can answer with an error that it does not list.
  const schema = described === undefined && status >= 400 ? description.error : described?.schema;
  if (described === undefined && status < 400) return [`${operation.id} does not answer ${status}`];
  return schema === undefined ? [] : check(`answer ${status} of ${operation.id}`, schema, false, body);
}
