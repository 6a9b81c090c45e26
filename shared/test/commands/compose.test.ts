import { hashServices, stopServices, upServices } from '../../src/commands/compose';
import { Secret } from '../../src/model/secret';
import { renderCommand } from '../../src/shell/render';
import { HOSTILE, Machine, SHELLS } from '../shells';

const target = { project: 'shop', projectDirectory: '/home/deploy/apps/shop' };
const file = '/home/deploy/apps/shop/.slipway/releases/R/compose.yaml';
const PREFIX = 'docker compose --ansi never --project-name shop --project-directory /home/deploy/apps/shop --file';

test('brings services up from images that are there', () => {
  expect(renderCommand(upServices(target, file, ['web', 'db']))).toBe(
    `${PREFIX} ${file} up --detach --no-build --pull never web db`,
  );
});

test('stops services', () => {
  expect(renderCommand(stopServices(target, file, ['web']))).toBe(`${PREFIX} ${file} stop web`);
});

test('hashes a file that is secret, so it travels on standard input', () => {
  const command = hashServices(target, new Secret('PASSWORD: hunter2'));
  expect(renderCommand(command)).toBe(`${PREFIX} - config --hash '*'`);
  expect(JSON.stringify(command)).not.toContain('hunter2');
  expect(command.stdin).toBeInstanceOf(Secret);
});

test.each(SHELLS)('hostile values are words, in $name', (shell) => {
  const machine = new Machine(shell).withDocker('');
  try {
    for (const text of HOSTILE) {
      const command = upServices({ project: text, projectDirectory: `/p/${text}` }, `/f/${text}`, [text]);
      expect(machine.run({ words: ['sh', '-c', renderCommand(command)] }).exitCode).toBe(0);
      expect(machine.calls.join('\n')).toContain(
        `<--project-name><${text}><--project-directory></p/${text}><--file></f/${text}><up><--detach><--no-build><--pull><never><${text}>`,
      );
    }
    expect(machine.run({ words: ['ls', machine.path('pwned')] }).exitCode).not.toBe(0);
  } finally {
    machine.remove();
  }
});
