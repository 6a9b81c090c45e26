import { writeFileSync } from 'node:fs';
import { FILES_GONE, renderRunning } from '../../src/commands/adopt';
import { Machine, SHELLS } from '../shells';

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  const withLabels = (directory: string, files: string, environment = ''): void => {
    machine.withDocker(`case "$1" in
ps) printf 'c1\\nc2\\n' ;;
inspect) case $3 in *working_dir*) cat <<'X'
${directory}
X
;; *config_files*) cat <<'X'
${files}
X
;; *environment_file*) cat <<'X'
${environment}
X
;; esac ;;
compose) pwd; echo '{}' ;;
esac`);
  };

  test('renders from the files that the containers name', () => {
    for (const file of ["it's $(x).yaml", '* b.yaml', '.env']) writeFileSync(machine.path(file), '');
    const files = [machine.path("it's $(x).yaml"), machine.path('* b.yaml')];
    withLabels(machine.folder, files.join(','), `${machine.path('.env')},${machine.path('gone.env')}`);
    expect(machine.run(renderRunning('shop'))).toEqual({
      exitCode: 0,
      stdout: `${machine.folder}\n${machine.folder}\n{}\n`,
      stderr: '',
    });
    expect(machine.calls.at(-1)).toBe(
      `<compose><--ansi><never><--project-name><shop><--project-directory><${machine.folder}>${files.map((file) => `<--file><${file}>`).join('')}<--env-file><${machine.path('.env')}><config>`,
    );
    expect(renderRunning('shop').secretOutput).toBe(true);
  });

  test('says which file is gone', () => {
    withLabels(machine.folder, machine.path('gone.yaml'));
    expect(machine.run(renderRunning('shop'))).toEqual({
      exitCode: FILES_GONE,
      stdout: '',
      stderr: `${machine.path('gone.yaml')}\n`,
    });
  });

  test('containers that name no files count as files that are gone, also when they name an environment', () => {
    writeFileSync(machine.path('.env'), '');
    withLabels(machine.folder, '', machine.path('.env'));
    expect(machine.run(renderRunning('shop')).exitCode).toBe(FILES_GONE);
    writeFileSync(machine.path('c.yaml'), '');
    withLabels(machine.path('gone'), machine.path('c.yaml'));
    expect(machine.run(renderRunning('shop')).exitCode).toBe(FILES_GONE);
  });

  test('a docker that fails is an error', () => {
    machine.withDocker('case $1 in ps) echo c1 ;; *) exit 5 ;; esac');
    expect(machine.run(renderRunning('shop')).exitCode).toBe(5);
  });
});
