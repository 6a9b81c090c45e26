/** Whether the server is ready: all findings at once, pure. */
import type { Service } from '../compose/project';
import type { PreflightFinding } from '../errors';
import { formatBytes } from '../images/size';
import type { ServerFacts } from './facts';

/**
 * `config --format json`, `--hash`, several `--env-file` and `up --pull never --no-build` work from here on; tested with
 * this version and with the newest.
 */
export const MINIMUM_COMPOSE = '2.20.0';

export function judgeServer(facts: ServerFacts): PreflightFinding[] {
  return [...judgeDocker(facts), ...judgeTools(facts), ...judgeFolder(facts), ...judgeStoreSpace(facts, 0, 0)];
}

function judgeDocker(facts: ServerFacts): PreflightFinding[] {
  const { docker } = facts;
  switch (docker.kind) {
    case 'missing':
      return [
        {
          message: 'Docker is not installed: there is no program `docker` in the PATH of the login.',
          hint: 'Install Docker Engine with the Compose plugin: https://docs.docker.com/engine/install/',
        },
      ];
    case 'unreachable': {
      if (/permission denied/i.test(docker.problem)) {
        const member = facts.groups.includes('docker');
        return [
          {
            message: `The user ${facts.user} may not use Docker${member ? '' : `: it is not in the group docker (its groups: ${facts.groups.join(', ')})`}.`,
            hint: member
              ? 'It is in the group docker, but the socket refuses it: look at `ls -l /var/run/docker.sock` and `docker context ls`.'
              : `On the server, as root: usermod -aG docker ${facts.user}`,
          },
        ];
      }
      return [
        {
          message: `Docker does not answer: ${docker.problem.slice(0, 300) || 'it gives no reason.'}`,
          hint: 'On the server: systemctl status docker; journalctl -u docker -n 50',
        },
      ];
    }
    case 'ready':
      if (docker.composeVersion === '') {
        return [
          {
            message: 'Docker has no Compose plugin (`docker compose`); the old `docker-compose` is not enough.',
            hint: 'Install it: https://docs.docker.com/compose/install/linux/',
          },
        ];
      }
      return compareVersions(docker.composeVersion, MINIMUM_COMPOSE) < 0
        ? [
            {
              message: `Docker Compose is ${docker.composeVersion}; Slipway needs ${MINIMUM_COMPOSE} or newer.`,
              hint: 'Update the Compose plugin: https://docs.docker.com/compose/install/linux/',
            },
          ]
        : [];
  }
}

function judgeTools(facts: ServerFacts): PreflightFinding[] {
  if (facts.missingTools.length === 0) return [];
  return [
    {
      message: `These programs are missing on the server: ${facts.missingTools.join(', ')}.`,
      hint: 'They are in coreutils, tar and util-linux (or busybox).',
    },
  ];
}

function judgeFolder(facts: ServerFacts): PreflightFinding[] {
  const findings: PreflightFinding[] = [];
  const own = `On the server, as root: install -d -o ${facts.user} ${facts.path} (or set the input path to a folder of ${facts.user}'s own).`;
  if (facts.folder === 'other') {
    findings.push({
      message: `The path ${facts.path} is there and is not a folder.`,
      hint: 'Choose another one with the input path.',
    });
  } else if (facts.notWritable !== '') {
    findings.push({
      message: `The user ${facts.user} may not write to ${facts.notWritable}, so ${facts.path} cannot be used.`,
      hint: own,
    });
  } else if (facts.storeProblem !== '') {
    findings.push({
      message: `The release store belongs to somebody else: ${facts.storeProblem}.`,
      hint: `Deploy as its owner, or give it to ${facts.user} with chown -R.`,
    });
  }
  return findings;
}

/** -1, 0 or 1 by the numbers of `2.26.1-4`; what follows them is ignored. */
export function compareVersions(a: string, b: string): number {
  const numbers = (text: string): number[] => (/^\d+(\.\d+)*/.exec(text)?.[0] ?? '0').split('.').map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

/** For the rendered Compose file, the record, the journal, and what the containers write meanwhile. */
const STORE_RESERVE_BYTES = 8 * 1024 * 1024;
const STORE_RESERVE_INODES = 100;

/** Room in the project's folder for a release with these shipped files. On a full disk not even the lock can be taken. */
export function judgeStoreSpace({ space, path }: ServerFacts, bytes: number, files: number): PreflightFinding[] {
  const neededBytes = STORE_RESERVE_BYTES + bytes;
  const enough = (free: { readonly freeBytes: number; readonly freeInodes: number | undefined }): boolean =>
    free.freeBytes >= neededBytes && (free.freeInodes ?? Infinity) >= STORE_RESERVE_INODES + files;
  if (space === undefined || enough(space)) return [];
  return [
    {
      message: `The release needs ${formatBytes(neededBytes)} in ${path}/.slipway, and ${formatBytes(space.freeBytes)} (${space.freeInodes ?? 'uncounted'} inodes) are free on ${space.mountPoint}.`,
      hint: 'Free some space there.',
    },
  ];
}

/** Ports that the project itself gives away twice, be it to two services or to several replicas of one. */
export function judgeSharedPorts(services: readonly Service[]): PreflightFinding[] {
  const wanted = services.flatMap((service) => service.ports.map((port) => ({ ...port, service })));
  return wanted.flatMap((one, index) => {
    const name = `${one.port}/${one.protocol}`;
    const other = wanted
      .slice(0, index)
      .find((two) => two.port === one.port && two.protocol === one.protocol && overlaps(two.address, one.address));
    if (other !== undefined) {
      return [
        {
          message: `Services ${other.service.name} and ${one.service.name} both publish port ${name} of the server.`,
          hint: 'Give one of them another port.',
        },
      ];
    }
    if (one.service.replicas < 2) return [];
    return [
      {
        message: `Service ${one.service.name} has ${one.service.replicas} replicas and publishes the fixed port ${name}, which only one of them can have.`,
        hint: 'Publish the port of a proxy in front of it, or a range of ports.',
      },
    ];
  });
}

/** Host ports that something else has; what this project itself publishes is replaced, and in nobody's way. */
export function judgePorts(services: readonly Service[], facts: ServerFacts, project: string): PreflightFinding[] {
  return services.flatMap((service) =>
    service.ports.flatMap((wanted) => {
      const owners = facts.publishedPorts.filter(
        (port) =>
          port.port === wanted.port && port.protocol === wanted.protocol && overlaps(port.address, wanted.address),
      );
      const owner = owners.find((port) => port.project !== project);
      if (owner === undefined && owners.length > 0) return [];
      const name = `${wanted.port}/${wanted.protocol}`;
      if (owner !== undefined) {
        return [
          {
            message: `Service ${service.name} publishes port ${name}, which container ${owner.container}${owner.project === '' ? '' : ` of project ${owner.project}`} has.`,
            hint: 'Stop that one, or publish another port.',
          },
        ];
      }
      if (wanted.protocol === 'tcp' && isListening(wanted, facts)) {
        return [
          {
            message: `Service ${service.name} publishes port ${name}, on which another program of the server listens.`,
            hint: `Find it on the server with: sudo ss -ltnp sport = :${wanted.port}`,
          },
        ];
      }
      return [];
    }),
  );
}

function isListening(wanted: { readonly port: number; readonly address: string }, facts: ServerFacts): boolean {
  return facts.listeningPorts.some((one) => one.port === wanted.port && overlaps(one.address, wanted.address));
}

function overlaps(a: string, b: string): boolean {
  const all = (address: string): boolean => ['', '0.0.0.0', '::'].includes(address);
  return a === b || all(a) || all(b);
}
