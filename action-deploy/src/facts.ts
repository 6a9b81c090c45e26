/** The read-only questions of a deploy: to the workspace, the server and the registries. */
import { posix } from 'node:path';
import { parseComposeWarnings, parseRendered, renderProject } from '#shared/commands/render';
import { parseProject, readProject, type Service } from '#shared/compose/project';
import { relocateProject } from '#shared/compose/rewrite';
import { parseYaml } from '#shared/compose/yaml';
import { guessProjectName, parseProjectName } from '#shared/engine/inputs';
import type { Candidate } from '#shared/engine/prepare';
import { CommandError, type InputProblem, InputError, type PreflightFinding, PreflightError } from '#shared/errors';
import { quoteValue } from '#shared/inputs/values';
import type { Secret } from '#shared/model/secret';
import type { Ports, Remote, ShippedFile } from '#shared/ports';
import { readText } from '#shared/json';
import type { StoreLayout } from '#shared/releases/layout';
import { findTree, type ShippedTree } from '#shared/releases/shipped';
import { describeSource, listEnvFiles, VARIABLES_FILE } from '#shared/releases/source';
import { packTar, type TarEntry } from '#shared/releases/tar';
import { mountRouters } from '#shared/engine/candidate';
import { script } from '#shared/shell/render';
import type { Inputs } from './inputs';

/** What the workspace gives to this deploy. */
export interface Source {
  readonly project: string;
  /** Folder of the first Compose file: what relative paths in it start from. Empty for the workspace itself. */
  readonly directory: string;
  /** Compose files and everything the input `files` names. */
  readonly files: readonly ShippedFile[];
  readonly composeFiles: readonly string[];
}

/** @throws InputError with all that is missing or cannot be shipped. */
export async function readSource(inputs: Inputs, ports: Pick<Ports, 'workspace' | 'runner'>): Promise<Source> {
  const problems: InputProblem[] = [];
  const shipped = await ports.workspace.collect(inputs.files);
  problems.push(...shipped.problems.map((message) => ({ input: 'files', message })));
  const composeTexts: ShippedFile[] = [];
  for (const path of inputs.composeFiles) {
    const text = await ports.workspace.read(path);
    if (text === undefined) {
      problems.push({
        input: 'compose-file',
        message: `${quoteValue(path)} is not a file of the workspace. Is there an actions/checkout step before this one, and is the path relative to the repository's root?`,
      });
    } else composeTexts.push({ path, executable: false, content: Buffer.from(text) });
  }
  const first = composeTexts[0];
  const project =
    inputs.project ||
    (first === undefined ? '' : readProjectName(first)) ||
    guessProjectName(ports.runner.context.repository);
  const named = parseProjectName(project);
  if ('problem' in named || project === '') {
    problems.push({
      input: 'project',
      message:
        project === ''
          ? 'is empty, and neither the Compose file (`name:`) nor the repository gives a name.'
          : 'problem' in named
            ? named.problem
            : '',
    });
  }
  const directory =
    posix.dirname(inputs.composeFiles[0] ?? '') === '.' ? '' : posix.dirname(inputs.composeFiles[0] ?? '');
  if (!inputs.env.isEmpty && shipped.files.some((file) => file.path === posix.join(directory, '.env'))) {
    problems.push({
      input: 'env',
      message: `is given, and \`files\` ships ${quoteValue(posix.join(directory, '.env'))} too: only one of them can be the project's .env.`,
    });
  }
  if (problems.length > 0) throw new InputError(problems);
  const files = new Map([...shipped.files, ...composeTexts].map((file) => [file.path, file]));
  return { project, directory, files: [...files.values()], composeFiles: inputs.composeFiles };
}

/** The `name:` of a Compose file, where it is plain text. A file that cannot be parsed is left to Compose, which explains it better. */
function readProjectName(file: ShippedFile): string {
  try {
    const name = readText(parseYaml(Buffer.from(file.content).toString()), 'name');
    return name.includes('$') ? '' : name;
  } catch {
    return '';
  }
}

/** Larger files are mounted, not read by Compose: their place is kept by an empty one while rendering. */
const MAX_RENDER_FILE_BYTES = 1024 * 1024;

/** What the server's own Compose made of the files, in a folder that is gone again. */
export interface Rendering {
  readonly stagingRoot: string;
  readonly rendered: string;
  readonly remarks: readonly string[];
  /** What it read, but the secret environment. */
  readonly entries: readonly TarEntry[];
}

/** @throws PreflightError with Compose's own words when it refuses the files. */
export async function renderOnServer(
  remote: Remote,
  source: Source,
  inputs: Inputs,
  ports: Pick<Ports, 'runner' | 'signal'>,
): Promise<Rendering> {
  const { directory } = source;
  const entries = listEntries(source, inputs, ports);
  const dotEnv = { path: posix.join(directory, '.env'), content: `${inputs.env.reveal()}\n` };
  const hasDotEnv = !inputs.env.isEmpty || entries.some(({ path }) => path === dotEnv.path);
  try {
    const { stdout, stderr } = await remote.run(
      renderProject({
        project: source.project,
        directory,
        composeFiles: composeFilesOf(source),
        envFiles: listEnvFiles(hasDotEnv),
        tar: await packTar(inputs.env.isEmpty ? entries : [...entries, dotEnv]),
      }),
      { purpose: 'render the Compose file', signal: ports.signal },
    );
    const remarks = parseComposeWarnings(stderr).map((message) => `Docker Compose: ${message}`);
    return { ...parseRendered(stdout), remarks, entries };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const words = error.stderr.replaceAll(/\/\S*\/slipway\.[A-Za-z0-9]{8}\/(_\/)*/g, '').trim();
    throw new PreflightError(remote.where, [
      {
        message: `Docker Compose refuses the Compose file: ${words === '' ? `exit code ${error.exitCode}` : words}`,
        hint: 'Compare with `docker compose config` in the repository; variables come from the inputs env and variables.',
      },
    ]);
  }
}

/** All that Compose may read but the secret environment. */
function listEntries(source: Source, inputs: Inputs, { runner }: Pick<Ports, 'runner'>): TarEntry[] {
  const variables = { SLIPWAY_COMMIT: runner.context.commit, ...inputs.variables };
  return [
    ...source.files.map((file) => ({
      path: file.path,
      content: file.content.byteLength > MAX_RENDER_FILE_BYTES ? new Uint8Array() : file.content,
    })),
    { path: posix.join(source.directory, VARIABLES_FILE), content: renderVariables(variables) },
  ];
}

function composeFilesOf({ directory, composeFiles }: Source): string[] {
  return composeFiles.map((file) => posix.relative(directory, file));
}

/** Names are checked by the inputs. Compose reads `\\'` as an escape between single quotes too, so a backslash needs double ones. */
function renderVariables(variables: Readonly<Record<string, string>>): string {
  return Object.entries(variables)
    .map(([name, value]) =>
      /['\\]/.test(value) ? `${name}="${value.replaceAll(/["\\$]/g, '\\$&')}"\n` : `${name}='${value}'\n`,
    )
    .join('');
}

/** The project with its paths where they will be on the server. */
export async function relocate(
  { stagingRoot, rendered, remarks, entries }: Rendering,
  source: Source,
  env: Secret,
  layout: StoreLayout,
  remote: Remote,
  ports: Pick<Ports, 'workspace' | 'signal'>,
): Promise<Candidate> {
  const project = parseProject(rendered);
  const trees = new Map<string, ShippedTree>();
  const mounts: Record<string, string> = {};
  const mounted: MountedPath[] = [];
  const { raw: moved, findings } = relocateProject(project, stagingRoot, (stagedPath, isWritable) => {
    const workspacePath = posix.relative(stagingRoot, stagedPath);
    const projectPath = posix.relative(posix.join(stagingRoot, source.directory), stagedPath);
    if (projectPath === '') {
      return {
        finding: {
          message: 'A service mounts the whole project folder (`.`): the release store is in it.',
          hint: 'Mount the folders that it needs.',
        },
      };
    }
    const onServer = `${layout.project}/${projectPath}`;
    const tree = findTree(source.files, workspacePath);
    if (tree !== undefined) {
      trees.set(tree.address, tree);
      mounts[workspacePath] = `${tree.address}/${tree.name}`;
      mounted.push({ path: workspacePath, onServer, isShipped: true, isWritable });
      return { path: `${layout.files}/${tree.address}/${tree.name}`, shipped: true };
    }
    if (projectPath.startsWith('..')) {
      return {
        finding: {
          message: `A service mounts ${quoteValue(projectPath)}, which is outside of the project folder and not shipped.`,
          hint: 'Ship it with the input files, or mount an absolute path of the server.',
        },
      };
    }
    mounted.push({ path: workspacePath, onServer, isShipped: false, isWritable });
    return { path: onServer, shipped: false };
  });
  const raw = mountRouters(moved, layout);
  const services = readProject(raw).services;
  const judged = await judgeMounts(mounted, remote, ports);
  return {
    raw,
    services,
    trees: [...trees.values()],
    files: [...trees.keys()],
    env,
    source: await describeSource(
      { directory: source.directory, composeFiles: composeFilesOf(source), mounts },
      entries,
    ),
    findings: [...findings, ...judgeServices(services, layout), ...judged.findings],
    warnings: [...remarks, ...judged.warnings],
  };
}

/** A path of the project that a service mounts. */
interface MountedPath {
  /** In the workspace. */
  readonly path: string;
  /** Where it is, or would be, in the project's folder on the server. */
  readonly onServer: string;
  readonly isShipped: boolean;
  readonly isWritable: boolean;
}

/** Mounts that would not be what people mean by them: Docker makes an empty folder of whatever is not there. */
async function judgeMounts(
  mounted: readonly MountedPath[],
  remote: Remote,
  ports: Pick<Ports, 'workspace' | 'signal'>,
): Promise<{ findings: PreflightFinding[]; warnings: string[] }> {
  const findings: PreflightFinding[] = [];
  const warnings: string[] = [];
  const doubtful = mounted.filter((one) => !one.isShipped || one.isWritable);
  if (doubtful.length === 0) return { findings, warnings };
  const { stdout } = await remote.run(
    script('for p; do if [ -e "$p" ]; then echo 1; else echo 0; fi; done', ...doubtful.map(({ onServer }) => onServer)),
    { purpose: 'look for mounted folders', signal: ports.signal },
  );
  const there = stdout.split('\n');
  for (const [index, { path, onServer, isShipped, isWritable }] of doubtful.entries()) {
    const onServerToo = there[index] === '1';
    const shown = quoteValue(path);
    if (isShipped && onServerToo) {
      findings.push({
        message: `The Compose file mounts ${shown} writable, it is shipped, and the server has one of its own (${onServer}), which may hold data.`,
        hint: 'Leave it out of the input files, if what is on the server is meant; or mount it read-only (`:ro`), if what is in the repository is.',
      });
    } else if (isShipped) {
      warnings.push(
        `The Compose file mounts ${shown} writable. It is shipped, and what was shipped does not change: it is mounted read-only. Write \`:ro\` there, or leave it out of the input files.`,
      );
    } else if (await ports.workspace.exists(path)) {
      if (onServerToo) {
        warnings.push(
          `The Compose file mounts ${shown} from the server's project folder. The workspace has one too, which is not shipped: add it to the input files if that is the one you mean.`,
        );
      } else {
        findings.push({
          message: `The Compose file mounts ${shown}, which is in the workspace but is not shipped, and the server has none.`,
          hint: `Add it to the input files: \`files: ${path}\`.`,
        });
      }
    } else if (!onServerToo && !isWritable) {
      findings.push({
        message: `The Compose file mounts ${shown} read-only, and it is neither in the workspace nor on the server: Docker would make an empty folder of it.`,
        hint: `Is it misspelled, or not committed? If it is to be on the server only, make it there first: ${onServer}`,
      });
    }
  }
  return { findings, warnings };
}

function judgeServices(services: readonly Service[], layout: StoreLayout): PreflightFinding[] {
  if (services.length === 0)
    return [{ message: 'The Compose file has no services.', hint: 'Are they all in profiles that are not active?' }];
  return services.flatMap((service) => {
    const findings: PreflightFinding[] = [];
    if (service.name.startsWith('-')) {
      findings.push({
        message: `Service ${service.name} has a name that \`docker compose\` takes for an option.`,
        hint: 'Let it begin with a letter or a digit.',
      });
    }
    if (service.image === '') {
      findings.push({
        message: `Service ${service.name} has a \`build\` and no \`image\`: Slipway deploys images, and builds nothing on the server.`,
        hint: `Build and push the image in the workflow (docker/build-push-action), and name it: \`image: ghcr.io/you/${service.name}:\${TAG}\`.`,
      });
    }
    if (
      service.mounts.some((mount) => mount.type === 'bind' && !mount.readOnly && isAround(mount.source, layout.store))
    ) {
      findings.push({
        message: `Service ${service.name} mounts a folder that holds the release store ${layout.store}, writable.`,
        hint: 'Mount it read-only, or mount only what is needed.',
      });
    }
    return findings;
  });
}

function isAround(outer: string, inner: string): boolean {
  return outer === '/' || inner === outer || inner.startsWith(`${outer.replace(/\/+$/, '')}/`);
}
