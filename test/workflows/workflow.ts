/** A workflow file as a model; what the harness does not support is refused here, before anything runs. */
import { HarnessError } from '../e2e/harness/index.ts';
import { Expression, type Mapping, parseFile, type Template } from './template.ts';

export interface Workflow {
  /** In its repository: `.github/workflows/deploy.yml`. */
  readonly path: string;
  readonly text: string;
  readonly name: string;
  /** Events, each with its filters. */
  readonly triggers: Readonly<Record<string, Mapping>>;
  readonly permissions: Permissions | undefined;
  readonly concurrency: Template | undefined;
  readonly env: Mapping;
  readonly jobs: readonly WorkflowJob[];
  /** What `on.workflow_call` declares. */
  readonly call: Call | undefined;
}

export interface Call {
  readonly inputs: Readonly<Record<string, CallInput>>;
  readonly secrets: Readonly<Record<string, { readonly required: boolean; readonly description: string }>>;
  readonly outputs: Readonly<Record<string, { readonly value: Template; readonly description: string }>>;
}

export interface CallInput {
  readonly type: 'string' | 'boolean' | 'number';
  readonly required: boolean;
  readonly default: Template | undefined;
  readonly description: string;
}

export type Level = 'none' | 'read' | 'write';
export type Permissions = Readonly<Record<string, Level>>;

interface CommonJob {
  readonly id: string;
  readonly needs: readonly string[];
  /** With its status function. */
  readonly condition: Expression;
  readonly permissions: Permissions | undefined;
  readonly concurrency: Template | undefined;
}

/** A job with steps of its own. */
export interface StepsJob extends CommonJob {
  readonly kind: 'steps';
  readonly runsOn: Template;
  readonly environment: Template | undefined;
  readonly timeoutMinutes: Template | undefined;
  readonly env: Mapping;
  readonly outputs: Mapping;
  readonly steps: readonly WorkflowStep[];
}

/** A job that is another workflow. */
export interface CallJob extends CommonJob {
  readonly kind: 'call';
  readonly uses: string;
  readonly with: Mapping;
  /** `inherit` hands over everything. */
  readonly secrets: Mapping | 'inherit';
}

export type WorkflowJob = StepsJob | CallJob;

export interface WorkflowStep {
  /** As given, else empty. */
  readonly id: string;
  /** For messages: its name, else what it does. */
  readonly label: string;
  readonly condition: Expression;
  readonly uses: string | undefined;
  readonly run: Template | undefined;
  readonly with: Mapping;
  readonly env: Mapping;
}

const WORKFLOW_KEYS = ['name', 'run-name', 'on', 'permissions', 'concurrency', 'env', 'jobs'];
const COMMON_KEYS = ['name', 'needs', 'if', 'permissions', 'concurrency'];
const STEPS_KEYS = [...COMMON_KEYS, 'runs-on', 'environment', 'timeout-minutes', 'env', 'outputs', 'steps'];
const CALL_KEYS = [...COMMON_KEYS, 'uses', 'with', 'secrets'];
const STEP_KEYS = ['id', 'name', 'if', 'uses', 'with', 'run', 'env', 'shell'];
const ALWAYS_SUCCESS = new Expression('success()');

/** @throws HarnessError for what GitHub's parser refuses, and for what is not supported here */
export async function readWorkflow(path: string, text: string): Promise<Workflow> {
  const refuse = (what: string): never => {
    throw new HarnessError(`${path}: ${what}`);
  };
  const mapping = (value: Template | undefined, where: string, allowed?: readonly string[]): Mapping => {
    if (value === undefined || value === null) return {};
    if (typeof value !== 'object' || Array.isArray(value) || value instanceof Expression) {
      return refuse(`${where} is not a mapping`);
    }
    for (const key of Object.keys(value)) {
      if (allowed && !allowed.includes(key)) refuse(`${where} has ${key}, which the harness does not support`);
    }
    return value as Mapping;
  };
  const literal = (value: Template | undefined, where: string): string => {
    if (value === undefined || value === null) return '';
    if (typeof value === 'object') return refuse(`${where} is not a plain text`);
    return String(value);
  };
  const list = (value: Template | undefined, where: string): readonly string[] => {
    if (value === undefined || value === null) return [];
    return Array.isArray(value) ? value.map((one) => literal(one as Template, where)) : [literal(value, where)];
  };
  const permissions = (value: Template | undefined, where: string): Permissions | undefined => {
    if (value === undefined) return undefined;
    if (typeof value === 'string') return refuse(`${where} is ${value}, which is more than any job needs`);
    return mapping(value, where) as Permissions;
  };

  const root = mapping(await parseFile(path, text), 'the file', WORKFLOW_KEYS);
  const on = root['on'];
  const triggers =
    typeof on === 'string' || Array.isArray(on)
      ? Object.fromEntries(list(on, 'on').map((event) => [event, {}]))
      : Object.fromEntries(
          Object.entries(mapping(on, 'on')).map(([event, value]) => [
            event,
            // `schedule` is a list.
            Array.isArray(value) ? { entries: value as Template } : mapping(value, `on.${event}`),
          ]),
        );

  const step = (value: Template, where: string): WorkflowStep => {
    const keys = mapping(value, where, STEP_KEYS);
    const uses = keys['uses'] === undefined ? undefined : literal(keys['uses'], `${where}.uses`);
    const id = literal(keys['id'], `${where}.id`);
    if (keys['shell'] !== undefined && keys['shell'] !== 'bash') refuse(`${where} has a shell that is not bash`);
    if ((uses === undefined) === (keys['run'] === undefined)) refuse(`${where} must have one of uses and run`);
    const name = keys['name'] instanceof Expression ? '' : literal(keys['name'], `${where}.name`);
    return {
      id,
      label: id || name || uses || where,
      condition: (keys['if'] as Expression | undefined) ?? ALWAYS_SUCCESS,
      uses,
      run: keys['run'],
      with: mapping(keys['with'], `${where}.with`),
      env: mapping(keys['env'], `${where}.env`),
    };
  };
  const job = ([id, value]: [string, Template]): WorkflowJob => {
    const where = `jobs.${id}`;
    const calls = mapping(value, where)['uses'] !== undefined;
    const keys = mapping(value, where, calls ? CALL_KEYS : STEPS_KEYS);
    const common = {
      id,
      needs: list(keys['needs'], `${where}.needs`),
      condition: (keys['if'] as Expression | undefined) ?? ALWAYS_SUCCESS,
      permissions: permissions(keys['permissions'], `${where}.permissions`),
      concurrency: keys['concurrency'],
    };
    if (calls) {
      return {
        ...common,
        kind: 'call',
        uses: literal(keys['uses'], `${where}.uses`),
        with: mapping(keys['with'], `${where}.with`),
        secrets: keys['secrets'] === 'inherit' ? 'inherit' : mapping(keys['secrets'], `${where}.secrets`),
      };
    }
    const steps = keys['steps'];
    return {
      ...common,
      kind: 'steps',
      runsOn: keys['runs-on'] ?? refuse(`${where} has no runs-on`),
      environment: keys['environment'],
      timeoutMinutes: keys['timeout-minutes'],
      env: mapping(keys['env'], `${where}.env`),
      outputs: mapping(keys['outputs'], `${where}.outputs`),
      steps: Array.isArray(steps)
        ? steps.map((one, at) => step(one as Template, `${where}.steps[${at}]`))
        : refuse(`${where} has no steps`),
    };
  };

  const called = triggers['workflow_call'];
  return {
    path,
    text,
    name: literal(root['name'], 'name') || path,
    triggers,
    permissions: permissions(root['permissions'], 'permissions'),
    concurrency: root['concurrency'],
    env: mapping(root['env'], 'env'),
    jobs: Object.entries(mapping(root['jobs'], 'jobs')).map(job),
    call: called && readCall(called, mapping, literal),
  };
}

function readCall(
  called: Mapping,
  mapping: (value: Template | undefined, where: string, allowed?: readonly string[]) => Mapping,
  literal: (value: Template | undefined, where: string) => string,
): Call {
  const where = 'on.workflow_call';
  const entries = (key: string): [string, Mapping][] =>
    Object.entries(mapping(called[key], `${where}.${key}`)).map(([name, value]) => [
      name,
      mapping(value, `${where}.${key}.${name}`),
    ]);
  return {
    inputs: Object.fromEntries(
      entries('inputs').map(([name, input]) => [
        name,
        {
          type: literal(input['type'], 'type') as CallInput['type'],
          required: input['required'] === true,
          default: input['default'],
          description: literal(input['description'], 'description'),
        },
      ]),
    ),
    secrets: Object.fromEntries(
      entries('secrets').map(([name, secret]) => [
        name,
        { required: secret['required'] === true, description: literal(secret['description'], 'description') },
      ]),
    ),
    outputs: Object.fromEntries(
      entries('outputs').map(([name, output]) => [
        name,
        { value: output['value'] ?? '', description: literal(output['description'], 'description') },
      ]),
    ),
  };
}
