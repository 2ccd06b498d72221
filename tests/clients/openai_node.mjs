// The `openai` package of Node, unchanged but for the base URL.
import OpenAI from "openai";

const [url, key] = process.argv.slice(2);
const messages = [{ role: "user", content: "hi" }];
const connect = (apiKey) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const ai = connect(key);
const whole = await ai.chat.completions.create({ model: "m", messages });
const parts = [];
for await (const chunk of await ai.chat.completions.create({ model: "m", messages, stream: true })) {
  const text = chunk.choices[0]?.delta?.content;
  if (text) parts.push(text);
}
const embedded = await ai.embeddings.create({ model: "e", input: ["a", "b"] });
const errors = {};
for (const [name, client, model] of [["unknown", ai, "nobody"], ["dead", ai, "dead"], ["stranger", connect("sk-wrong"), "m"]]) {
  try {
    await client.chat.completions.create({ model, messages });
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    errors[name] = [error.constructor.name, error.status, error.code];
  }
}
const models = (await ai.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, parts, tokens: whole.usage.total_tokens, embedded: embedded.data.length,
  norm: Math.hypot(...embedded.data[0].embedding), models, errors,
}));
