// The front end: no framework, no build step.
const byId = (id) => document.getElementById(id);

async function fetchJson(path, options) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(10_000) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `${path} answered ${response.status}`);
  return body;
}

async function showProblems(task) {
  try {
    await task();
    byId('problem').hidden = true;
  } catch (error) {
    byId('problem').textContent = error.message;
    byId('problem').hidden = false;
  }
}

async function showRelease() {
  byId('release').textContent = (await fetchJson('/api/version')).releaseId;
}

async function showVisits() {
  byId('visits').textContent = (await fetchJson('/api/visits')).visits;
}

async function showNotes() {
  const { notes } = await fetchJson('/api/notes');
  byId('notes').replaceChildren(
    ...notes.map(({ text, createdAt }) => {
      const item = document.createElement('li');
      const time = document.createElement('time');
      time.dateTime = createdAt;
      time.textContent = new Date(createdAt).toLocaleString();
      item.append(text, ' ', time); // append() adds text, never markup
      return item;
    }),
  );
}

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  void showProblems(async () => {
    const text = byId('text').value;
    await fetchJson('/api/notes', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ text }) });
    byId('form').reset();
    await showNotes();
  });
});

void showProblems(() => Promise.all([showRelease(), showVisits(), showNotes()]));
// A deploy shows here by itself; a failed poll is no news.
setInterval(() => void showRelease().catch(() => {}), 5000);
