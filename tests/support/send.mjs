// Sends each request of standard input (JSON: [{method, path, headers, size}]) and prints what it could read.
import http from "node:http";

const [port] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function send({ method, path, headers, size }) {
  return new Promise((resolve) => {
    const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () =>
        resolve({ status: answer.statusCode, connection: answer.headers.connection, body: Buffer.concat(parts).toString() }),
      );
    });
    request.on("error", (error) => resolve({ error: String(error) }));
    request.end(Buffer.alloc(size));
  });
}

let text = "";
for await (const part of process.stdin) text += part;
for (const request of JSON.parse(text)) console.log(JSON.stringify(await send(request)));
agent.destroy();
