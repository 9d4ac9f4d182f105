// A tab "Finished" for every process definition. The community edition keeps the history but has no page for it, so a
// case worker could not see how a quote or an order ended. The tab reads the history as the user who is logged in.

const SHOWN = 100;
const END_EVENTS_READ = 1000;

const read = async (api, path, query) => {
  const answer = await fetch(`${api.engineApi}${path}?${new URLSearchParams(query)}`, { credentials: 'same-origin' });
  if (!answer.ok) {
    throw new Error(`${answer.status} ${answer.statusText}`);
  }
  return answer.json();
};

// The result of each instance: the name of its last end event.
const resultsOf = async (api, processDefinitionId) => {
  const query = { processDefinitionId, finished: true, sortBy: 'endTime', sortOrder: 'desc', maxResults: END_EVENTS_READ };
  const results = new Map();
  for (const activityType of ['noneEndEvent', 'escalationEndEvent']) {
    for (const event of await read(api, '/history/activity-instance', { ...query, activityType })) {
      if (!results.has(event.processInstanceId)) {
        results.set(event.processInstanceId, event.activityName);
      }
    }
  }
  return results;
};

const cell = (tag, text) => {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
};

const row = (tag, texts) => {
  const element = document.createElement('tr');
  element.append(...texts.map((text) => cell(tag, text)));
  return element;
};

const moment = (time) => new Date(time).toLocaleString();

const show = async (container, { api, processDefinitionId }) => {
  const finished = { processDefinitionId, finished: true };
  const latest = { ...finished, sortBy: 'endTime', sortOrder: 'desc', maxResults: SHOWN };
  const [instances, { count }, results] = await Promise.all([
    read(api, '/history/process-instance', latest),
    read(api, '/history/process-instance/count', finished),
    resultsOf(api, processDefinitionId),
  ]);
  const table = document.createElement('table');
  table.className = 'cam-table';
  const head = table.createTHead();
  head.append(row('th', ['Ended', 'Result', 'Business Key', 'State', 'Started', 'ID']));
  const body = table.createTBody();
  for (const instance of instances) {
    const result = results.get(instance.id) ?? '';
    const times = [moment(instance.endTime), moment(instance.startTime)];
    body.append(row('td', [times[0], result, instance.businessKey ?? '', instance.state, times[1], instance.id]));
  }
  container.replaceChildren(cell('p', `${count} finished, the latest ${instances.length} shown`), table);
};

export default {
  id: 'q2o.finished-instances',
  pluginPoint: 'cockpit.processDefinition.runtime.tab',
  priority: 9,
  properties: { label: 'Finished' },
  render: (container, context) => {
    container.textContent = 'Reading the history …';
    show(container, context).catch((error) => {
      container.textContent = `The history could not be read: ${error.message}`;
    });
  },
};
