/** What Slipway asks of `docker compose`: pure. One project name and one project directory for every release. */
import type { Command } from '../model/command';
import type { Secret } from '../model/secret';

export interface ComposeTarget {
  readonly project: string;
  /** Absolute. */
  readonly projectDirectory: string;
}

function compose(target: ComposeTarget, file: string, ...words: readonly string[]): Command {
  return {
    words: [
      'docker',
      'compose',
      '--ansi',
      'never',
      '--project-name',
      target.project,
      '--project-directory',
      target.projectDirectory,
      '--file',
      file,
      ...words,
    ],
  };
}

/**
 * Creates or recreates these services. Images are there already and pinned, so nothing is pulled or built. Without
 * `--no-deps`: it strips `depends_on` before the configuration is hashed (measured with Compose 2.26), and the next plain
 * `docker compose up -d` would recreate what is running. What they depend on has been brought up before, and stays as it is.
 */
export function upServices(target: ComposeTarget, file: string, services: readonly string[]): Command {
  return compose(target, file, 'up', '--detach', '--no-build', '--pull', 'never', ...services);
}

export function stopServices(target: ComposeTarget, file: string, services: readonly string[]): Command {
  return compose(target, file, 'stop', ...services);
}

/** The configuration hash of each service of a rendered file given on standard input: lines `service hash`. */
export function hashServices(target: ComposeTarget, rendered: Secret): Command {
  return { ...compose(target, '-', 'config', '--hash', '*'), stdin: rendered };
}
