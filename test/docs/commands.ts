/**
 * Where each command of the documents is run, or why it is not. By document, then by what the command, or several, begin with.
 * commands.test.ts holds it complete: a command that is not here fails, and so does a beginning that no command has.
 */

/** A test that runs it, from the document's own text; or why no test does. */
export type Where = { readonly by: string } | { readonly not: string };

const DOCS: Where = { by: 'test/e2e/docs.test.ts' };
const INFRASTRUCTURE: Where = { by: 'test/e2e/infrastructure.test.ts' };
const MONITORING: Where = { by: 'test/e2e/monitoring.test.ts' };

export const COMMANDS: Readonly<Record<string, Readonly<Record<string, Where>>>> = {
  'README.md': {
    'npm run demo': {
      not: 'makes a sandbox of its own, which a test inside one cannot; it fails by itself where a promise is not kept',
    },
    'export GH_REPO=': { by: 'test/e2e/quick-start.test.ts' },
    'npm test': { not: 'is the run that this test is a part of' },
    'ssh-keygen ': { by: 'test/e2e/quick-start.test.ts' },
    'ssh root@': { by: 'test/e2e/quick-start.test.ts' },
  },
  'CONTRIBUTING.md': {
    'node_modules/.bin/node scripts/load.mjs': { not: 'runs until it is interrupted; test/load tests what it starts' },
    'node_modules/.bin/node scripts/zero-downtime.mjs': {
      not: 'takes minutes; test/e2e/zero-downtime.test.ts does the same in less',
    },
    'node_modules/.bin/node scripts/kill-matrix.mjs': {
      not: 'looks at a server of its own for a minute and a half; test/e2e/kill-matrix.test.ts runs a sample of what it lists',
    },
    'node_modules/.bin/node scripts/measure.mjs': { not: 'takes most of an hour, and writes BENCHMARKS.md' },
    'export SLIPWAY_SANDBOX=mine': { not: 'makes a sandbox beside that of the test; infra/sandbox/test does the same' },
    'npm run sandbox -- up': { not: 'the same' },
    'npm run sandbox -- ssh s1': { not: 'the same' },
    'npm run sandbox -- down': { not: 'the same' },
  },
  'SECURITY.md': {
    'gh attestation verify': { not: 'asks GitHub about a release that was published there' },
    'gh release verify': { not: 'the same' },
    'npm ci --ignore-scripts && node scripts/check-dist.mjs': { not: 'is the stage dist of npm test' },
  },
  'infra/docs/DEPLOYMENT.md': {
    'useradd ': DOCS,
    'ssh-keygen ': DOCS,
    'ssh root@': DOCS,
    'gh secret set SSH_KEY': DOCS,
    'echo "shop.example.com': DOCS,
  },
  'infra/docs/INFRASTRUCTURE.md': {
    'export GH_REPO=': INFRASTRUCTURE,
    'ssh-keygen ': INFRASTRUCTURE,
    'ssh root@shop.example.com "sh -s --': INFRASTRUCTURE,
    'gh variable set DEPLOY_HOST': INFRASTRUCTURE,
    'rm slipway app.env': INFRASTRUCTURE,
    'scp ': INFRASTRUCTURE,
    'ssh root@shop.example.com "cd slipway-nginx': INFRASTRUCTURE,
    'curl --insecure': INFRASTRUCTURE,
    'curl --fail': INFRASTRUCTURE,
  },
  'infra/docs/MIGRATING.md': {
    'git pull': { not: 'of a script that the reader has today, and gives up' },
    'docker compose pull\n': { not: 'the same' },
    'docker compose exec -T api': { not: 'the same' },
    'docker compose up -d': { not: 'the same' },
    'sleep 10': { not: 'the same' },
    'curl -f http://localhost': { not: 'the same' },
    'docker image prune': { not: 'the same' },
    'docker compose pull api': { not: 'of the way that the reader gives up' },
    'docker rollout api': { not: 'the same; docker-rollout is a program of others' },
  },
  'infra/docs/RUNBOOK.md': {
    'ssh deploy@shop.example.com\n': DOCS,
    'cd apps/shop': DOCS,
    'df -h / /var': DOCS,
    'free -m': DOCS,
    'docker system df': DOCS,
    'docker compose ps': DOCS,
    'docker compose logs': DOCS,
    'readlink .slipway/current': DOCS,
    'curl --fail': INFRASTRUCTURE,
    'fail2ban-client ': INFRASTRUCTURE,
    'df -h /\n': DOCS,
    'du -sh ': DOCS,
    'cat .slipway/session': DOCS,
    'curl --silent': INFRASTRUCTURE,
    'systemctl list-timers': INFRASTRUCTURE,
    'journalctl ': INFRASTRUCTURE,
    'ssh-keygen ': DOCS,
    "ssh deploy@shop.example.com 'cat": DOCS,
    'gh secret set SSH_KEY': DOCS,
    'ssh deploy@shop.example.com "sed': DOCS,
    'docker compose exec db psql': { not: 'asks for a password at a terminal' },
    'ls .slipway/releases': DOCS,
    "grep 'image:'": DOCS,
    'docker compose --project-name shop': DOCS,
    'docker compose stop api': DOCS,
    'docker compose start api': DOCS,
    'docker stats --no-stream': DOCS,
    'docker compose exec -T db psql': DOCS,
    'docker compose exec -T web nginx -t': DOCS,
    'docker image prune --force': DOCS,
    'docker builder prune --force': DOCS,
    'docker compose exec -T cache redis-cli': DOCS,
    'ls .slipway/backups': DOCS,
  },
  'infra/example/README.md': {
    'npm ci': { not: 'installs packages; the stage `example` of `npm test` runs both' },
    'docker build ': DOCS,
    'cp .env.example': DOCS,
    'docker compose up -d --wait': DOCS,
    'curl http://127.0.0.1:8080/health/ready': DOCS,
    'docker compose down': DOCS,
    'DATABASE_URL=': {
      not: 'does not end; infra/example/test/application-process.ts starts the same program with these variables',
    },
  },
  'infra/monitoring/DASHBOARDS.md': {
    'docker compose --profile ': { not: 'wants images that cannot be had where the tests run, as the document says' },
  },
  'infra/monitoring/README.md': {
    'project=shop': MONITORING,
    'service() {': MONITORING,
    'install -d ': MONITORING,
    'cd /etc/slipway-monitoring': MONITORING,
    'umask 022': MONITORING,
    'openssl rand ': MONITORING,
    'printf \'{"redis://cache:6379"': MONITORING,
    'printf "CREATE ROLE monitoring': MONITORING,
    'docker compose exec alertmanager amtool': {
      not: 'the image of Alertmanager that the tests make, of what Debian has, is without amtool',
    },
    'promtool check config': { not: 'infra/monitoring/test runs the three programs on the same files' },
  },
  'infra/nginx/README.md': {
    'apt-get install nginx': INFRASTRUCTURE,
    'sh install.sh --name shop.example.com --name www.shop.example.com --upstream 127.0.0.1:8080 --check':
      INFRASTRUCTURE,
    'sh install.sh --name shop.example.com --name www.shop.example.com --upstream 127.0.0.1:8080\n': INFRASTRUCTURE,
    'curl -k': INFRASTRUCTURE,
  },
  'infra/sandbox/README.md': {
    'sudo node infra/sandbox/sandbox.mjs up --servers 2': { not: 'every end-to-end test does it, with one server' },
    'node infra/sandbox/sandbox.mjs status': DOCS,
    'node infra/sandbox/sandbox.mjs exec s1 -- journalctl': DOCS,
    'node infra/sandbox/sandbox.mjs exec s1 -- bash': DOCS,
    'ls /var/tmp/slipway-sandbox/default': DOCS,
    'ls /var/tmp/slipway-sandbox/cache': DOCS,
    'ip netns': DOCS,
  },
  'infra/server/README.md': {
    'export GH_REPO=': INFRASTRUCTURE,
    'ssh-keygen ': INFRASTRUCTURE,
    'ssh root@': INFRASTRUCTURE,
    'sed "1a': INFRASTRUCTURE,
    'apt-get update': INFRASTRUCTURE,
    'rm /etc/ssh/': INFRASTRUCTURE,
    'systemctl disable --now slipway-firewall': INFRASTRUCTURE,
    'rm /etc/fail2ban/': INFRASTRUCTURE,
    'systemctl restart fail2ban': INFRASTRUCTURE,
    'mv /etc/docker/': INFRASTRUCTURE,
    'swapoff ': { not: "a sandbox server has no swap of its own: that is its host's" },
    'docker ps -q': INFRASTRUCTURE,
    'rm -r /var/lib/slipway-bootstrap': INFRASTRUCTURE,
  },
  'action-backup/README.md': {
    'age-keygen ': DOCS,
    'gh variable set BACKUP_AGE_RECIPIENTS': DOCS,
  },
  'action-ssl/README.md': {
    'cd /etc/slipway/tls/': DOCS,
    'mkdir placeholder': DOCS,
    'openssl ': DOCS,
    'ln -s placeholder current': DOCS,
  },
};

/** @param command as the document has it @returns undefined where it has no place */
export function whereIs(document: string, command: string): Where | undefined {
  return COMMANDS[document]?.[beginningOf(document, command) ?? ''];
}

/** The longest that fits: `docker compose pull` is the beginning of others. A line's end is a part of it. */
export function beginningOf(document: string, command: string): string | undefined {
  return Object.keys(COMMANDS[document] ?? {})
    .filter((beginning) => `${command}\n`.startsWith(beginning))
    .sort((a, b) => b.length - a.length)[0];
}
