// Bundles each program into one file, so that the image needs neither `npm install` nor a network.
// With --tests it also compiles the tests, so that they run on any Node that the application supports.
import { readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const common = { bundle: true, platform: 'node', target: 'node20', format: 'cjs', sourcemap: 'inline', logLevel: 'warning' };

rmSync('dist', { recursive: true, force: true });
await build({
  ...common,
  entryPoints: ['src/server.ts', 'src/healthcheck.ts'],
  outdir: 'dist',
  sourcemap: false,
  // An optional part of pg that is loaded only when asked for; and our own that is loaded only where telemetry is sent.
  external: ['pg-native', './opentelemetry.js'],
});
// From its packages' modules, of which what is not used can be left out: 270 KB instead of 740.
await build({ ...common, entryPoints: ['src/opentelemetry.ts'], outdir: 'dist', sourcemap: false, mainFields: ['module', 'main'] });

if (process.argv.includes('--tests')) {
  rmSync('build', { recursive: true, force: true });
  const tests = readdirSync('test').filter((name) => name.endsWith('.test.ts'));
  await build({ ...common, entryPoints: tests.map((name) => `test/${name}`), outdir: 'build/test', packages: 'external' });
}
