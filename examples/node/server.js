// A Node.js server that keeps a list in memory, with the hooks ready and validate.
"use strict";

const http = require("node:http");

const HOOKS = "/aws/lambda-microvms/runtime/v1";
const notes = [];

function read(request) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => resolve(Buffer.concat(pieces).toString()));
    request.on("error", reject);
  });
}

async function answer(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /":
      return [200, { notes, node: process.version }];
    case "POST /":
      notes.push(await read(request));
      return [201, { count: notes.length }];
    case `POST ${HOOKS}/ready`:
    case `POST ${HOOKS}/validate`:
      return [200, {}];
    default:
      return [404, { error: "GET or POST /" }];
  }
}

http
  .createServer(async (request, response) => {
    const [status, value] = await answer(request);
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(value) + "\n");
  })
  .listen(8080, () => console.log("listening on 8080"));
