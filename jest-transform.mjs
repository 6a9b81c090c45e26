/** Jest's way from TypeScript to JavaScript: Node's own, which takes the types away. What does not compile is seen by the stage `types`. */
import { createHash } from 'node:crypto';
import { stripTypeScriptTypes } from 'node:module';

export default {
  process: (source, path) => ({ code: stripTypeScriptTypes(source, { mode: 'strip', sourceUrl: path }) }),
  getCacheKey: (source, path) => createHash('sha256').update(`${process.version} ${path}\n${source}`).digest('hex'),
};
