// What the services of the matrix run: answers its release at port 3000, `/site` with the file that was shipped with it.
// With a volume at /data it says there that it lives, and finds out whether somebody else does on the same data.
import * as fs from 'node:fs';
import * as http from 'node:http';

const release = process.env.RELEASE_ID;
fs.rmSync('/tmp/healthy', { force: true });

const beat = `beat-${process.env.HOSTNAME}`;
const others = new Map();
function live() {
  fs.writeFileSync(`/data/${beat}`, release);
  for (const name of fs.readdirSync('/data')) {
    if (!name.startsWith('beat-') || name === beat) continue;
    let at;
    try {
      at = fs.statSync(`/data/${name}`).mtimeMs;
    } catch {
      continue;
    }
    // It has moved since we last looked: whoever writes it is alive.
    if (others.has(name) && others.get(name) !== at) fs.appendFileSync('/data/doubled', `${release} and ${name}\n`);
    others.set(name, at);
  }
}
if (fs.existsSync('/data')) {
  live();
  setInterval(live, 50);
}
process.on('SIGTERM', () => {
  if (fs.existsSync('/data')) fs.rmSync(`/data/${beat}`, { force: true });
  process.exit(0);
});
http
  .createServer((request, response) => {
    if (request.url === '/site') response.end(fs.readFileSync('/site/release').toString().trim());
    else response.end(release);
  })
  .listen(3000, () => fs.writeFileSync('/tmp/healthy', ''));
