// Makes each call once with the vendor's SDK for Node. Prints the messages, the SDK's requests and
// its failures as JSON. See tests/emulator/test_sdks.py.
//
//     node send.mjs HOST KEY MESSAGES_PER_REQUEST

import { Analytics } from "@customerio/cdp-analytics-node";

const [host, writeKey, perRequest] = process.argv.slice(2);

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

const analytics = new Analytics({ host, writeKey, maxEventsInBatch: Number(perRequest) });
const requests = [];
const failures = [];
analytics.on("http_request", ({ url, method, headers, body }) => {
  requests.push({ url, method, headers, body });
});
analytics.on("error", ({ code, reason }) => failures.push(`${code}: ${reason}`));

// The SDK may change its arguments, so it gets copies.
for (const [type, message] of calls) analytics[type](structuredClone(message));
await analytics.closeAndFlush();

const messages = calls.map(([type, message]) => ({ type, ...message }));
console.log(JSON.stringify({ messages, requests, failures, version: analytics.VERSION }));
