/** For Docker's HEALTHCHECK: exits 0 when the path given (default /health/ready) answers 200. The image needs no curl. */
import { get } from 'node:http';

const port = process.env['PORT'] || '3000';
const path = process.argv[2] ?? '/health/ready';

const request = get({ host: '127.0.0.1', port, path, timeout: 4000, headers: { connection: 'close' } }, (response) => {
  let body = '';
  response.setEncoding('utf8');
  response.on('data', (text: string) => (body += text));
  response.on('end', () => finish(response.statusCode === 200, `${response.statusCode} ${body.trim()}`));
});
request.on('timeout', () => request.destroy(new Error('no answer within 4 s')));
request.on('error', (error) => finish(false, error.message));

/** Docker keeps the output: `docker inspect` shows why a container is unhealthy. */
function finish(isHealthy: boolean, output: string): void {
  process.stdout.write(`${output}\n`);
  process.exitCode = isHealthy ? 0 : 1;
}
