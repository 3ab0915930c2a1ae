// The data: one event for each task, such as tasks/0192f0c4-….

export const COLUMNS = { todo: "To do", doing: "Doing", done: "Done" } as const;
export type Column = keyof typeof COLUMNS;
export const columns = Object.keys(COLUMNS) as Column[];

export interface Task {
  title: string;
  column: Column;
}

declare global {
  interface BrokerEvents {
    [task: `tasks/${string}`]: Task;
  }
}
