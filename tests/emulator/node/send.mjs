// Makes each call once with an SDK for Node. Prints the messages, the SDK's requests and its
// failures as JSON. See tests/emulator/test_node_sdks.py.
//
//     node send.mjs SDK HOST KEY MESSAGES_PER_REQUEST

import { readFile } from "node:fs/promises";

const [sdk, host, writeKey, perRequest] = process.argv.slice(2);

const timestamp = new Date("2023-05-01T12:30:15.250+02:00");
const context = { app: { name: "Tidbits", build: "421" }, locale: "pt-BR", ip: "203.0.113.7" };
const integrations = { All: false, Mixpanel: true, Amplitude: { sessionId: 3 } };
const values = {
  text: "Zoë 🐈 \u0000 \"quoted\" \\",
  empty: "",
  number: 0.1,
  whole: 9007199254740991,
  yes: true,
  nothing: null,
  list: [1, "two", [3, { four: null }]],
  deep: { deeper: { deepest: {} } },
  when: new Date("2020-02-29T00:00:00.000Z"),
};

const calls = [
  ["identify", { userId: "ada", traits: values }],
  ["track", { userId: "ada", event: "Application Opened", properties: { ...values, url: "x:/" } }],
  ["page", { anonymousId: "a-1", name: "Home", category: "Docs", properties: values }],
  ["screen", { userId: "ada", anonymousId: "a-1", name: "Start", properties: values }],
  ["group", { userId: "ada", groupId: "g-1", traits: values }],
  ["alias", { userId: "ada", previousId: "a-1" }],
].map(([type, fields], number) => [
  type,
  { ...fields, messageId: `node-${number}`, timestamp, context, integrations },
]);

let version;  // that the SDK reports
const failures = [];
const requests = [];
const sent = globalThis.fetch;
globalThis.fetch = (url, options) => {
  requests.push({ url: String(url), headers: options.headers, body: options.body });
  return sent(url, options);
};

// The SDKs may change their arguments, so they get copies.
if (sdk === "customerio-node") {
  const { PipelinesClient } = await import(sdk);
  const about = new URL(`node_modules/${sdk}/package.json`, import.meta.url);
  ({ version } = JSON.parse(await readFile(about)));
  const client = new PipelinesClient(writeKey, { url: `${host}/v1`, strictMode: true });
  if (Number(perRequest) === 1) {
    for (const [type, message] of calls) await client[type](structuredClone(message));
  } else {
    await client.batch(calls.map(([type, message]) => ({ type, ...structuredClone(message) })));
  }
} else {
  const { Analytics } = await import(sdk);
  const analytics = new Analytics({ host, writeKey, maxEventsInBatch: Number(perRequest) });
  version = analytics.VERSION;
  analytics.on("http_request", ({ url, headers, body }) => requests.push({ url, headers, body }));
  analytics.on("error", ({ code, reason }) => failures.push(`${code}: ${reason}`));
  for (const [type, message] of calls) analytics[type](structuredClone(message));
  await analytics.closeAndFlush();
}

const messages = calls.map(([type, message]) => ({ type, ...message }));
const unique = [...new Map(requests.map((each) => [each.body, each])).values()];
console.log(JSON.stringify({ messages, requests: unique, failures, version }));
