// The browser's own databases, each with one store.

/** The answer to a request of a database. */
export const answer = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's database refused"));
  });

/** Waits until what was written is kept: a full disk says so only at the end. */
export const written = ({ transaction }: IDBObjectStore): Promise<void> =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser's database refused"));
  });

export class Database {
  private opened: Promise<IDBDatabase> | null = null;

  /** `keyPath` tells records apart, `order` is what they are listed by. */
  constructor(
    private readonly name: string,
    private readonly store: string,
    private readonly keyPath: string,
    private readonly order: string,
  ) {}

  async within(mode: IDBTransactionMode): Promise<IDBObjectStore> {
    // A browser that lets no page keep anything says so each time it is asked.
    this.opened ??= this.open();
    this.opened.catch(this.forget);
    return (await this.opened).transaction(this.store, mode).objectStore(this.store);
  }

  private async open(): Promise<IDBDatabase> {
    const request = indexedDB.open(this.name, 1);
    request.onupgradeneeded = () => {
      const records = request.result.createObjectStore(this.store, { keyPath: this.keyPath });
      records.createIndex(this.order, this.order);
    };
    const database = await answer(request);
    // A newer page in another window may want to change it, or somebody to take it away.
    database.onversionchange = () => {
      database.close();
      this.forget();
    };
    database.onclose = this.forget;
    return database;
  }

  private readonly forget = (): void => void (this.opened = null);
}
