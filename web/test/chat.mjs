// What a person does in the chat, in words that hold in every language.

import { holding, words } from "./words.mjs";

export class Chat {
  constructor(page, say) {
    this.page = page;
    this.say = say.chat;
    this.shell = say.shell;
    this.text = say.text;
  }

  static async of(page, language = "en") {
    const chat = new Chat(page, await words(language));
    await chat.field.waitFor();
    return chat;
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: typeof name === "string" });
  }
  /** A button that opens something and also shows what is chosen there. */
  opener(name, where = this.page) {
    return where.getByRole("button", { name: new RegExp(`^${holding(name).source}(?: |$)`) });
  }
  get field() {
    return this.page.getByRole("textbox", { name: this.say.message, exact: true });
  }
  get send() {
    return this.button(this.say.send);
  }
  get stop() {
    return this.button(this.say.stop);
  }
  get answers() {
    return this.page.getByRole("article", { name: holding(this.say.answer_of("")) });
  }
  get questions() {
    return this.page.getByRole("article", { name: this.say.your_question, exact: true });
  }
  get last() {
    return this.answers.last();
  }
  /** The fold of a thought, under way or done. */
  thought(answer = this.last) {
    const { thinking, thought, thought_for } = this.say;
    const timed = holding(thought_for("§")).source.replace("§", ".+");
    return answer.getByRole("button", { name: new RegExp(`^(?:${timed}|${thinking}|${thought}$)`) });
  }
  get history() {
    return this.page.getByRole("region", { name: this.say.history, exact: true });
  }
  entry(title) {
    return this.history.getByRole("link", { name: title });
  }

  /** Begins another chat; the one before is out of sight. */
  async anew() {
    await this.button(this.say.new_chat).first().click();
    await this.questions.first().waitFor({ state: "detached" });
    await this.page.getByRole("heading", { name: this.say.welcome }).waitFor();
  }

  /** Asks and waits for the whole answer. */
  async ask(text) {
    const before = await this.questions.count();
    await this.begin(text);
    await this.questions.nth(before).waitFor();
    await this.done();
    return this.last;
  }
  async begin(text) {
    await this.field.fill(text);
    await this.send.click();
  }
  async done() {
    await this.send.waitFor();
    await this.stop.waitFor({ state: "detached" });
  }

  async choose(menu, entry) {
    let opener = menu;
    if (typeof menu === "string") opener = (await this.button(menu).count()) > 0 ? this.button(menu) : this.opener(menu);
    await opener.click();
    const entries = this.page.getByRole("menu");
    await entries.getByRole("menuitem", { name: entry }).or(entries.getByRole("menuitemradio", { name: entry })).first().click();
  }

  /** The model that answers. */
  async pick(name) {
    await this.choose(this.say.model, holding(name));
  }

  async thinking(label) {
    await this.choose(this.say.think_menu, holding(label));
  }

  /** Waits until all there is was kept. */
  async kept(title) {
    await this.entry(title).first().waitFor();
  }
}

/** What was asked of the server, as it was sent. */
export function requests(page, path) {
  const all = [];
  page.on("request", (request) => {
    if (new URL(request.url()).pathname === path && request.method() === "POST") all.push(request.postDataJSON());
  });
  return all;
}
