/**
 * Workflow commands on the output of a process, read as the runner reads them:
 * https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs and
 * https://github.com/actions/runner/blob/main/src/Runner.Worker/ActionCommandManager.cs
 */
import type { Annotation, StepLog } from './step-log.ts';
import type { SecretMasker } from './secret-masker.ts';

export interface WorkflowCommand {
  /** Lower case. */
  readonly name: string;
  /** Keys in lower case. */
  readonly properties: ReadonlyMap<string, string>;
  readonly data: string;
}

/** Something that the real runner obeys or tolerates and that the harness, or our own rules, do not. */
export interface Unsupported {
  readonly what: string;
  readonly text: string;
}

const ANNOTATIONS = ['notice', 'warning', 'error'] as const;

const REGISTERED = [
  ...ANNOTATIONS,
  'add-mask',
  'add-matcher',
  'add-path',
  'debug',
  'echo',
  'endgroup',
  'group',
  'remove-matcher',
  'save-state',
  'set-env',
  'set-output',
  'stop-commands',
];

const DATA_ESCAPES = { '%0D': '\r', '%0A': '\n' };
const PROPERTY_ESCAPES = { ...DATA_ESCAPES, '%3A': ':', '%2C': ',' };
const LEGACY_ESCAPES = { ...DATA_ESCAPES, '%3B': ';', '%5D': ']' };

function unescape(text: string, escapes: Readonly<Record<string, string>>): string {
  let plain = text;
  for (const [escape, character] of Object.entries(escapes)) plain = plain.replaceAll(escape, character);
  return plain.replaceAll('%25', '%');
}

/** @returns undefined for a line that the runner prints as text. */
export function parseCommand(line: string, registered: ReadonlySet<string>): WorkflowCommand | undefined {
  return parseNewForm(line.trimStart(), registered) ?? parseLegacyForm(line, registered);
}

/** `::name key=value,key=value::data`, at the start of a line. */
function parseNewForm(line: string, registered: ReadonlySet<string>): WorkflowCommand | undefined {
  const end = line.startsWith('::') ? line.indexOf('::', 2) : -1;
  if (end < 0) return undefined;
  const head = splitHead(line.slice(2, end), registered);
  return (
    head && {
      name: head.name,
      properties: parseProperties(head.properties.trim(), ',', PROPERTY_ESCAPES),
      data: unescape(line.slice(end + 2), DATA_ESCAPES),
    }
  );
}

/** `##[name key=value;key=value]data`, anywhere in a line. */
function parseLegacyForm(line: string, registered: ReadonlySet<string>): WorkflowCommand | undefined {
  const start = line.indexOf('##[');
  const end = start < 0 ? -1 : line.indexOf(']', start);
  if (end < 0) return undefined;
  const head = splitHead(line.slice(start + 3, end), registered);
  return (
    head && {
      name: head.name,
      properties: parseProperties(head.properties, ';', LEGACY_ESCAPES),
      data: unescape(line.slice(end + 1), LEGACY_ESCAPES),
    }
  );
}

function splitHead(
  head: string,
  registered: ReadonlySet<string>,
): { readonly name: string; readonly properties: string } | undefined {
  const space = head.indexOf(' ');
  const name = (space < 0 ? head : head.slice(0, space)).toLowerCase();
  return registered.has(name) ? { name, properties: space < 0 ? '' : head.slice(space + 1) } : undefined;
}

function parseProperties(
  text: string,
  separator: string,
  escapes: Readonly<Record<string, string>>,
): ReadonlyMap<string, string> {
  const properties = new Map<string, string>();
  for (const pair of text.split(separator)) {
    const equals = pair.indexOf('=');
    // A property without a value does not count.
    if (equals > 0 && equals < pair.length - 1) {
      properties.set(pair.slice(0, equals).toLowerCase(), unescape(pair.slice(equals + 1), escapes));
    }
  }
  return properties;
}

/** A line that looks like a command, and is one that no runner knows: a typing mistake, or output that went out unguarded. */
const LOOKS_LIKE_A_COMMAND = /^\s*::[a-z][a-z-]*(?: [^:]*)?::|##\[[a-z][a-z-]*(?: [^\]]*)?\]/i;

/** Obeys the commands of one process. `stop-commands` holds for stdout and stderr together, and ends with the process. */
export class CommandReader {
  readonly #log: StepLog;
  readonly #masker: SecretMasker;
  readonly #registered = new Set(REGISTERED);
  readonly #unsupported: Unsupported[] = [];
  #stopToken: string | undefined;
  #echo = false;
  #failed = false;

  constructor(log: StepLog, masker: SecretMasker) {
    this.#log = log;
    this.#masker = masker;
  }

  get unsupported(): readonly Unsupported[] {
    return this.#unsupported;
  }

  /** A command could not be obeyed: the step fails whatever the exit code says. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Commands are stopped: at the end of a process, a forgotten resume. */
  get stopped(): boolean {
    return this.#stopToken !== undefined;
  }

  /** One line of stdout or stderr. */
  read(line: string): void {
    const command = parseCommand(line, this.#registered);
    if (command === undefined) {
      if (!this.stopped && LOOKS_LIKE_A_COMMAND.test(line))
        this.#refuse('a command that the runner does not know', line);
      this.#log.write('line', line);
      return;
    }
    if (this.#stopToken !== undefined) {
      // Everything but the token is text now.
      this.#log.write('line', line);
      if (command.name === this.#stopToken) {
        this.#registered.delete(this.#stopToken);
        this.#stopToken = undefined;
      }
      return;
    }
    this.#obey(command, line);
  }

  #obey(command: WorkflowCommand, line: string): void {
    const { name, data, properties } = command;
    switch (name) {
      case 'stop-commands':
        this.#stop(data, line);
        return;
      case 'add-mask':
        if (data.trim() === '') this.#warn("Can't add secret mask for empty string in ##[add-mask] command.");
        this.#masker.add(data);
        return;
      case 'debug':
        this.#log.write('debug', data);
        return;
      case 'notice':
      case 'warning':
      case 'error':
        this.#log.annotate(toAnnotation(name, data, properties));
        return;
      case 'group':
      case 'endgroup':
        this.#echoLine(line);
        this.#log.write(name, name === 'group' ? data : '');
        return;
      case 'echo':
        this.#switchEcho(data, line);
        return;
      case 'set-output':
      case 'save-state':
        // The runner still obeys these two with a warning (a date for their end was set, then put off); we do not.
        this.#warn(
          `The \`${name}\` command is deprecated and will be disabled soon. Please upgrade to using Environment Files.`,
        );
        this.#refuse(`the deprecated command ${name}`, line);
        return;
      case 'set-env':
      case 'add-path':
        this.#fail(line, `The \`${name}\` command is disabled. Please upgrade to using Environment Files.`);
        this.#refuse(`the disabled command ${name}`, line);
        return;
      default:
        this.#refuse(`the command ${name}, which the harness does not imitate`, line);
        return;
    }
  }

  #stop(token: string, line: string): void {
    const name = token.toLowerCase();
    // A token that is itself a command could be resumed by anybody's output.
    if (name === '' || name === 'pause-logging' || this.#registered.has(name)) {
      this.#fail(
        line,
        `You cannot use a endToken that is an empty string, the string 'pause-logging', or another workflow command.`,
      );
      return;
    }
    this.#log.write('line', line);
    this.#registered.add(name);
    this.#stopToken = name;
  }

  #switchEcho(value: string, line: string): void {
    this.#echoLine(line);
    const word = value.trim().toLowerCase();
    if (word === 'on' || word === 'off') this.#echo = word === 'on';
    else
      this.#fail(
        line,
        `Invalid echo command value. Possible values can be: 'on', 'off'. Current value is: '${value}'.`,
      );
  }

  #echoLine(line: string): void {
    if (this.#echo) this.#log.write('line', line);
  }

  #warn(message: string): void {
    this.#log.annotate({ type: 'warning', title: '', message, file: '', shown: true });
  }

  #fail(line: string, message: string): void {
    this.#log.annotate({
      type: 'error',
      title: '',
      message: `Unable to process command '${line}' successfully.`,
      file: '',
      shown: true,
    });
    this.#log.annotate({ type: 'error', title: '', message, file: '', shown: true });
    this.#failed = true;
  }

  #refuse(what: string, text: string): void {
    this.#unsupported.push({ what, text: this.#masker.mask(text) });
  }
}

function toAnnotation(type: Annotation['type'], message: string, properties: ReadonlyMap<string, string>): Annotation {
  const place = (name: string): number | undefined => {
    const text = properties.get(name) ?? '';
    return /^\d+$/.test(text) ? Number(text) : undefined;
  };
  const line = place('line');
  const column = place('col');
  return {
    type,
    title: properties.get('title') ?? '',
    message,
    file: properties.get('file') ?? '',
    ...(line === undefined ? {} : { line }),
    ...(column === undefined ? {} : { column }),
    shown: true,
  };
}
